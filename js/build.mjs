import { build } from "esbuild";

// One ES module and one style sheet: anywidget reads both from the Python package.
await build({
  entryPoints: { widget: "src/index.ts" },
  outdir: "../sam3_widget/static",
  bundle: true,
  format: "esm",
  target: ["es2022"],
  minify: !process.argv.includes("--dev"),
  legalComments: "none",
  logLevel: "info",
});
await build({
  entryPoints: { widget: "src/style.css" },
  outdir: "../sam3_widget/static",
  bundle: true,
  minify: !process.argv.includes("--dev"),
  logLevel: "info",
});
