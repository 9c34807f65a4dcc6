import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { shareKeys } from "../src/hostkeys";

const SUPPRESS = "data-lm-suppress-shortcuts";
let page: HTMLElement;
let root: HTMLElement;
let ending: AbortController;
/** What the page saw, and whether shortcuts were suppressed when it did. */
let seen: [key: string, suppressed: boolean][];

beforeEach(() => {
  vi.useFakeTimers();
  ending = new AbortController();
  seen = [];
  root = document.createElement("div");
  page = document.createElement("div");
  page.append(root);
  page.addEventListener("keydown", ({ key }) => seen.push([key, root.hasAttribute(SUPPRESS)]));
  shareKeys(root, ending.signal);
});

afterEach(() => {
  ending.abort();
  vi.useRealTimers();
});

function press(init: KeyboardEventInit, tag = "canvas", type = ""): void {
  const target = document.createElement(tag);
  if (type !== "") target.setAttribute("type", type);
  root.append(target);
  target.dispatchEvent(new KeyboardEvent("keydown", { bubbles: true, ...init }));
}

it.each(["d", "x", "Enter", "ArrowDown", " ", "M"])("keeps %s in, whatever has the focus", (key) => {
  for (const tag of ["canvas", "button", "input", "summary"]) press({ key, shiftKey: key === "M" }, tag);
  expect(seen).toEqual([]);
});

it("lets a combination through with shortcuts on, and suppresses them again", () => {
  expect(root.getAttribute(SUPPRESS)).toBe("true");
  press({ key: "s", ctrlKey: true });
  press({ key: "F11" });
  expect(seen).toEqual([
    ["s", false],
    ["F11", false],
  ]);
  vi.runAllTimers();
  expect(root.getAttribute(SUPPRESS)).toBe("true");
});

it("leaves a field what edits its text, and a slider nothing of the kind", () => {
  for (const key of ["a", "c", "v", "x", "z", "y", "ArrowLeft", "Backspace", "Enter"]) {
    press({ key, ctrlKey: true }, "input");
    press({ key, ctrlKey: true }, "input", "number");
  }
  expect(seen).toEqual([]);
  press({ key: "s", ctrlKey: true }, "input");
  press({ key: "y", ctrlKey: true }, "input", "range");
  expect(seen.map(([key]) => key)).toEqual(["s", "y"]);
});
