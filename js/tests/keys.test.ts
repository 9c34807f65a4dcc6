import { describe, expect, it } from "vitest";
import { BINDINGS, chord, dispatchKey, findBinding, type KeyContext } from "../src/keys";

it("has no key twice", () => {
  const keys = BINDINGS.flatMap((binding) => binding.keys);
  expect(keys.length).toBeGreaterThan(40);
  expect(new Set(keys).size).toBe(keys.length);
});

it.each([
  [{ key: "Z", ctrlKey: true, shiftKey: true }, "Mod+Shift+z"],
  [{ key: "z", metaKey: true }, "Mod+z"],
  [{ key: "?", shiftKey: true }, "?"],
  [{ key: "+", shiftKey: true }, "+"],
  [{ key: "T" }, "t"],
  [{ key: "ArrowLeft", shiftKey: true }, "Shift+ArrowLeft"],
  [{ key: "Tab", shiftKey: true }, "Shift+Tab"],
  [{ key: "p", altKey: true }, ""],
  [{ key: "я", code: "KeyZ", ctrlKey: true }, "Mod+z"],
  [{ key: "é", code: "Digit2" }, "é"],
])("names %o", (init, name) => {
  expect(chord(new KeyboardEvent("keydown", init))).toBe(name);
});

it("knows every key of the conventions", () => {
  for (const key of "p b s t m x a d v l o f h ? [ ] + - 1 0 Tab Shift+Tab Enter Shift+Enter Escape Delete".split(
    " ",
  )) {
    expect(findBinding(key), key).toBeDefined();
  }
  for (const key of ["Mod+z", "Mod+Shift+z", "Mod+y", "Backspace"])
    expect(findBinding(key), key).toBeDefined();
  expect(findBinding(" ")).toBeUndefined();
});

describe("dispatch", () => {
  function press(
    key: string,
    onCanvas: boolean,
    target: HTMLElement = document.createElement("div"),
    { dataset = false, repeat = false } = {},
  ) {
    const calls: string[] = [];
    const context = {
      player: null,
      dataset: dataset
        ? {
            step: (way: number) => calls.push(`step ${way}`),
            decide: (status: string) => calls.push(status),
          }
        : null,
      editor: {
        step: () => false,
        remove: () => calls.push("remove"),
        flip: () => calls.push("flip"),
        setClass: (index: number) => calls.push(`class ${index}`),
        moveCursor: (dx: number, dy: number, fast: boolean) => calls.push(`move ${dx} ${dy} ${fast}`),
      },
    } as unknown as KeyContext;
    const event = new KeyboardEvent("keydown", {
      key: key.replace("Shift+", ""),
      shiftKey: key.startsWith("Shift+"),
      repeat,
      bubbles: true,
      cancelable: true,
    });
    let above = 0;
    const parent = document.createElement("div");
    parent.append(target);
    parent.addEventListener("keydown", () => above++);
    target.addEventListener("keydown", (each) => dispatchKey(each, onCanvas, context));
    target.dispatchEvent(event);
    return { calls, stopped: above === 0, prevented: event.defaultPrevented };
  }

  it("stops the keys it handles", () => {
    expect(press("t", false)).toEqual({ calls: ["flip"], stopped: true, prevented: true });
    expect(press("0", false).calls).toEqual(["class 9"]);
    expect(press("Shift+ArrowUp", true).calls).toEqual(["move 0 -1 true"]);
  });

  it("leaves the others alone", () => {
    const untouched = { calls: [], stopped: false, prevented: false };
    expect(press("z", true)).toEqual(untouched);
    expect(press("Delete", false)).toEqual(untouched);
    expect(press("t", true, document.createElement("input"))).toEqual(untouched);
  });

  it.each([
    ["a", "step -1"],
    ["d", "step 1"],
    ["e", "accepted"],
    ["r", "rejected"],
    ["q", "skipped"],
    ["u", "open"],
  ])("%s is for a data set alone", (key, call) => {
    expect(press(key, false)).toEqual({ calls: [], stopped: false, prevented: false });
    const there = press(key, false, undefined, { dataset: true });
    expect(there).toEqual({ calls: [call], stopped: true, prevented: true });
  });

  it("skims while a key is held, and decides once", () => {
    const held = { dataset: true, repeat: true };
    expect(press("d", true, undefined, held).calls).toEqual(["step 1"]);
    expect(press("e", true, undefined, held)).toEqual({ calls: [], stopped: true, prevented: true });
  });

  it("lets Tab leave when there is no object to step to", () => {
    expect(press("Tab", true)).toEqual({ calls: [], stopped: false, prevented: false });
  });
});
