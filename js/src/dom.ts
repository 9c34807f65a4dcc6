/** Small helpers to make elements. */

type Attributes = Record<string, string | number | boolean | undefined>;
type Child = Node | string | null;

/** An attribute that is `true` is set empty, one that is `false` or `undefined` is left out. */
export function node<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === false) continue;
    element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children) if (child !== null) element.append(child);
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

/** Paths on a 20 x 20 grid, drawn with one stroke width. */
const ICONS = {
  point: "M10 2.5v4M10 13.5v4M2.5 10h4M13.5 10h4M10 9.5v1M9.5 10h1",
  box: "M3 6V3h3M14 3h3v3M17 14v3h-3M6 17H3v-3M8.5 3h3M8.5 17h3M3 8.5v3M17 8.5v3",
  brush:
    "M16.8 3.2c-1-1-7 4-8.6 6.6l2 2c2.6-1.6 7.6-7.6 6.6-8.6zM8 10.4c-2.2 0-3 1.4-3 3s-1 2.6-2.3 3c3 1.2 7.7.6 7.5-3.8",
  eraser:
    "M8 16.5 3.5 12a1.4 1.4 0 0 1 0-2L10 3.5a1.4 1.4 0 0 1 2 0L16.5 8a1.4 1.4 0 0 1 0 2L10 16.5zM6.7 6.8l6.5 6.5M8 16.5h9",
  object: "M10 3.2c4 0 6.8 2.6 6.8 6.4 0 4.2-2.6 7.2-6.8 7.2S3.2 13.8 3.2 10C3.2 6.2 6 3.2 10 3.2z",
  concept:
    "M6 2.8a3.2 3.2 0 1 0 0 6.4 3.2 3.2 0 0 0 0-6.4M14.2 4.6a2.9 2.9 0 1 0 0 5.8 2.9 2.9 0 0 0 0-5.8M8.4 11.6a2.9 2.9 0 1 0 0 5.8 2.9 2.9 0 0 0 0-5.8",
  find: "M8.8 3.4a5.4 5.4 0 1 0 0 10.8 5.4 5.4 0 0 0 0-10.8M12.8 12.8l3.9 3.9",
  pin: "M10 17.5 5.6 11a5.3 5.3 0 1 1 8.8 0zM10 6.3a1.8 1.8 0 1 0 0 3.6 1.8 1.8 0 0 0 0-3.6",
  polarity: "M10 2.8a7.2 7.2 0 1 0 0 14.4 7.2 7.2 0 0 0 0-14.4M5 15 15 5M5.5 7.5h3M7 6v3M11.5 12.8h3",
  undo: "M7 4 3.5 7.5 7 11M3.5 7.5h8a4.5 4.5 0 0 1 0 9H8",
  redo: "m13 4 3.5 3.5L13 11M16.5 7.5h-8a4.5 4.5 0 0 0 0 9H12",
  fit: "M3 7.5V3h4.5M12.5 3H17v4.5M17 12.5V17h-4.5M7.5 17H3v-4.5M7.5 8h5v4h-5z",
  zoomIn: "M9 3.2a5.8 5.8 0 1 0 0 11.6A5.8 5.8 0 0 0 9 3.2M13.3 13.3 17 17M9 6.5v5M6.5 9h5",
  zoomOut: "M9 3.2a5.8 5.8 0 1 0 0 11.6A5.8 5.8 0 0 0 9 3.2M13.3 13.3 17 17M6.5 9h5",
  outline: "M4 8c0-3 3-5 6-5s6.5 1.5 6.5 5-1 4-1 5.5-2 3.5-5 3.5S4 14 4 8z",
  help: "M10 2.8a7.2 7.2 0 1 0 0 14.4 7.2 7.2 0 0 0 0-14.4M7.9 8c.1-2.8 4.3-2.6 4.3-.1 0 1.6-2.2 1.7-2.2 3.5M10 14v.1",
  settings:
    "M3 5.5h7M14 5.5h3M3 14.5h3M10 14.5h7M12 3.5a2 2 0 1 0 0 4 2 2 0 0 0 0-4M8 12.5a2 2 0 1 0 0 4 2 2 0 0 0 0-4",
  eye: "M2.5 10c2-3.6 4.5-5.3 7.5-5.3s5.5 1.7 7.5 5.3c-2 3.6-4.5 5.3-7.5 5.3S4.5 13.6 2.5 10zM10 7.7a2.3 2.3 0 1 0 0 4.6 2.3 2.3 0 0 0 0-4.6",
  eyeOff:
    "M3 3l14 14M8 5c4-1 7 .9 9.5 5-.7 1.3-1.5 2.3-2.3 3.1M5.3 6.3C4.2 7.2 3.3 8.4 2.5 10c2.6 4.6 6.3 6.3 10.3 4.8M8.5 8.3a2.3 2.3 0 0 0 3.2 3.2",
  lock: "M4.5 9h11v8h-11zM7 9V6.5a3 3 0 0 1 6 0V9",
  unlock: "M4.5 9h11v8h-11zM7 9V6.5a3 3 0 0 1 5.8-1",
  trash: "M3.5 5.5h13M8 5.5V3.5h4v2M5 5.5l.8 11.5h8.4L15 5.5M8.3 8.5v5.5M11.7 8.5v5.5",
  plus: "M10 4v12M4 10h12",
  close: "m5 5 10 10M15 5 5 15",
  stop: "M5.5 5.5h9v9h-9z",
  code: "M7 5.5 2.5 10 7 14.5M13 5.5l4.5 4.5-4.5 4.5M11.5 4l-3 12",
  play: "M6 3.8v12.4L16 10z",
  pause: "M6.5 4v12M13.5 4v12",
  stepBack: "M13.5 4.5 7 10l6.5 5.5zM5 4.5v11",
  stepForward: "M6.5 4.5 13 10l-6.5 5.5zM15 4.5v11",
  forward: "M3 10h13M11.5 5.5 16 10l-4.5 4.5M3 7v6",
  backward: "M17 10H4M8.5 5.5 4 10l4.5 4.5M17 7v6",
  both: "M3 10h14M6.5 6.5 3 10l3.5 3.5M13.5 6.5 17 10l-3.5 3.5",
  worst: "M10 3.5 17.5 16.5h-15zM10 8v4M10 14.2v.1",
  accept: "m3.5 10.5 4.5 4.5 8.5-10",
  skip: "M5 17.5V3h10l-2.5 3.5L15 10H5",
  previous: "M12.5 4 6.5 10l6 6",
  next: "m7.5 4 6 6-6 6",
  rest: "M3 4.5h9v7H3zM6 15h9V8M16 12.5 18 15l-2 2.5",
  lowest: "M4 4.5h12M4 10h8M4 15.5h4M15.5 9v7.5M13 14l2.5 2.5L18 14",
  rangeIn: "M12.5 4H7v12h5.5M7 10h9",
  rangeOut: "M7.5 4H13v12H7.5M13 10H4",
} as const;

export type IconName = keyof typeof ICONS;

export function icon(name: IconName): SVGSVGElement {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 20 20");
  svg.setAttribute("class", "sam3w-icon");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/** Writes only what differs: an untouched attribute costs no style pass, and a text no layout. */
export function setText(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

export function setAttribute(element: Element, name: string, value: string | null): void {
  if (value === null) element.removeAttribute(name);
  else if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

/** Puts a text on the clipboard, also on pages without the right to the newer way, such as those by plain HTTP. */
export async function copyText(text: string, home: HTMLElement): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
    return;
  } catch {
    const field = node("textarea", { class: "sam3w-sr", "aria-hidden": "true" });
    field.value = text;
    home.append(field);
    field.select();
    const copied = document.execCommand("copy");
    field.remove();
    if (!copied) throw new Error("The browser does not let the script be copied: use w.script() instead.");
  }
}
