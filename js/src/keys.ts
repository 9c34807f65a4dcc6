/** One table of keys, for pressing and for reading. */

import type { Dataset } from "./dataset";
import type { Editor } from "./editor";
import { isTyping } from "./hostkeys";
import type { Player } from "./player";

export interface KeyContext {
  editor: Editor;
  toggleOutline(): void;
  toggleHelp(): void;
  /** The field to name a concept in. */
  toField(): void;
  hold(on: boolean): void;
  /** Returns true when something was cancelled, closed or left. */
  escape(): boolean;
  /** Of a clip. */
  player: Player | null;
  /** Of a folder of images. */
  dataset: Dataset | null;
}

export interface Binding {
  /** As `chord` writes them; several do the same. */
  keys: readonly string[];
  /** How the help sheet writes them. */
  shown: string;
  what: string;
  group: "Draw" | "Objects" | "Video" | "Images" | "View" | "General";
  /** On the canvas only: elsewhere the key belongs to the control that has the focus. */
  canvas?: boolean;
  /** However long it is held: nobody means what comes next unseen. */
  once?: boolean;
  /** Returning false leaves the key to the browser. */
  run(context: KeyContext, key: string): boolean | undefined;
}

const does = (act: (context: KeyContext) => void) => (context: KeyContext) => {
  act(context);
  return true;
};

/** For clips alone. */
const plays = (act: (player: Player) => void) => (context: KeyContext) => {
  if (context.player === null) return false;
  act(context.player);
  return true;
};

/** For data sets alone. */
const labels = (act: (dataset: Dataset) => void) => (context: KeyContext) => {
  if (context.dataset === null) return false;
  act(context.dataset);
  return true;
};

const ARROWS: Record<string, [number, number]> = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
};

function moveCursor({ editor }: KeyContext, key: string): boolean {
  const fast = key.startsWith("Shift+");
  const [dx, dy] = ARROWS[fast ? key.slice(6) : key] ?? [0, 0];
  editor.moveCursor(dx, dy, fast);
  return true;
}

export const BINDINGS: readonly Binding[] = [
  {
    group: "Draw",
    keys: ["p"],
    shown: "P",
    what: "Point tool",
    run: does((c) => c.editor.setTool("point", true)),
  },
  {
    group: "Draw",
    keys: ["b"],
    shown: "B",
    what: "Box tool",
    run: does((c) => c.editor.setTool("box", true)),
  },
  {
    group: "Draw",
    keys: ["s"],
    shown: "S",
    what: "Brush tool",
    run: does((c) => c.editor.setTool("brush", true)),
  },
  {
    group: "Draw",
    keys: ["c"],
    shown: "C",
    what: "Concept or object: what clicks and boxes are for",
    run: does((c) => c.editor.toggleMode()),
  },
  {
    group: "Draw",
    keys: ["t"],
    shown: "T",
    what: "Include or exclude: of the chosen prompt, else of the next ones",
    run: does((c) => c.editor.flip()),
  },
  {
    group: "Draw",
    keys: ["["],
    shown: "[",
    what: "Smaller brush",
    run: does((c) => c.editor.resizeBrush(false)),
  },
  {
    group: "Draw",
    keys: ["]"],
    shown: "]",
    what: "Larger brush",
    run: does((c) => c.editor.resizeBrush(true)),
  },
  {
    group: "Draw",
    keys: Object.keys(ARROWS),
    shown: "Arrow keys",
    what: "Move the cursor",
    canvas: true,
    run: moveCursor,
  },
  {
    group: "Draw",
    keys: Object.keys(ARROWS).map((key) => `Shift+${key}`),
    shown: "Shift + arrow keys",
    what: "Move the cursor ten times as far",
    canvas: true,
    run: moveCursor,
  },
  {
    group: "Draw",
    keys: ["Enter"],
    shown: "Enter",
    what: "Click at the cursor; corner of a box; begin or end a stroke",
    canvas: true,
    run: does((c) => c.editor.enter(false)),
  },
  {
    group: "Draw",
    keys: ["Shift+Enter"],
    shown: "Shift + Enter",
    what: "The same, to exclude",
    canvas: true,
    run: does((c) => c.editor.enter(true)),
  },
  {
    group: "Objects",
    keys: ["/"],
    shown: "/",
    what: "Name a thing, to find every instance of it",
    run: does((c) => c.toField()),
  },
  {
    group: "Objects",
    keys: ["m"],
    shown: "M",
    what: "New object; in concept mode a new concept",
    run: does((c) => c.editor.startNew()),
  },
  {
    group: "Objects",
    keys: ["Tab"],
    shown: "Tab",
    what: "Next object",
    canvas: true,
    run: (c) => c.editor.step(true),
  },
  {
    group: "Objects",
    keys: ["Shift+Tab"],
    shown: "Shift + Tab",
    what: "Previous object",
    canvas: true,
    run: (c) => c.editor.step(false),
  },
  {
    group: "Objects",
    keys: ["x"],
    shown: "X",
    what: "Next candidate",
    run: does((c) => c.editor.nextCandidate()),
  },
  {
    group: "Objects",
    keys: ["1", "2", "3", "4", "5", "6", "7", "8", "9", "0"],
    shown: "1 – 9, 0",
    what: "Class of the selected object; with none selected, of new ones",
    run: ({ editor }, key) => {
      editor.setClass((Number(key) + 9) % 10);
      return true;
    },
  },
  {
    group: "Objects",
    keys: ["v"],
    shown: "V",
    what: "Hide or show",
    run: does((c) => c.editor.toggleVisible()),
  },
  {
    group: "Objects",
    keys: ["l"],
    shown: "L",
    what: "Lock or unlock",
    run: does((c) => c.editor.toggleLocked()),
  },
  {
    group: "Objects",
    keys: ["Delete", "Backspace"],
    shown: "Del",
    what: "Delete the chosen prompt, else the object",
    canvas: true,
    run: does((c) => c.editor.remove()),
  },
  { group: "Video", keys: ["."], shown: ".", what: "Next frame", run: plays((p) => p.step(1)) },
  { group: "Video", keys: [","], shown: ",", what: "Frame before", run: plays((p) => p.step(-1)) },
  { group: "Video", keys: [">"], shown: ">", what: "Next prompt or flag", run: plays((p) => p.leap(1)) },
  { group: "Video", keys: ["<"], shown: "<", what: "Prompt or flag before", run: plays((p) => p.leap(-1)) },
  {
    group: "Video",
    keys: ["Home"],
    shown: "Home",
    what: "First frame",
    canvas: true,
    run: plays((p) => p.go(p.range.first)),
  },
  {
    group: "Video",
    keys: ["End"],
    shown: "End",
    what: "Last frame",
    canvas: true,
    run: plays((p) => p.go(p.range.last)),
  },
  { group: "Video", keys: ["k"], shown: "K", what: "Play or pause", run: plays((p) => p.toggle()) },
  {
    group: "Video",
    keys: ["w"],
    shown: "W",
    what: "Frame of the lowest score: of the selected object, else of all",
    run: plays((p) => p.worst()),
  },
  {
    group: "Video",
    keys: ["Shift+i"],
    shown: "Shift + I",
    what: "The range begins here; again, at the start",
    run: plays((p) => p.begin()),
  },
  {
    group: "Video",
    keys: ["Shift+o"],
    shown: "Shift + O",
    what: "The range ends here; again, at the end",
    run: plays((p) => p.end()),
  },
  {
    group: "Video",
    keys: ["g"],
    shown: "G",
    what: "Propagate forward, through the range",
    run: plays((p) => p.propagate("forward")),
  },
  {
    group: "Video",
    keys: ["Shift+g"],
    shown: "Shift + G",
    what: "Propagate backward",
    run: plays((p) => p.propagate("backward")),
  },
  { group: "Images", keys: ["d"], shown: "D", what: "Next image", run: labels((d) => d.step(1)) },
  { group: "Images", keys: ["a"], shown: "A", what: "Image before", run: labels((d) => d.step(-1)) },
  {
    group: "Images",
    keys: ["e"],
    shown: "E",
    what: "Accept, and go on",
    once: true,
    run: labels((d) => void d.decide("accepted")),
  },
  {
    group: "Images",
    keys: ["r"],
    shown: "R",
    what: "Reject, and go on",
    once: true,
    run: labels((d) => void d.decide("rejected")),
  },
  {
    group: "Images",
    keys: ["q"],
    shown: "Q",
    what: "Skip, and go on: come back later",
    once: true,
    run: labels((d) => void d.decide("skipped")),
  },
  {
    group: "Images",
    keys: ["u"],
    shown: "U",
    what: "Undecided again",
    once: true,
    run: labels((d) => void d.decide("open")),
  },
  { group: "View", keys: ["+", "="], shown: "+", what: "Zoom in", run: does((c) => c.editor.zoom(1.25)) },
  { group: "View", keys: ["-", "_"], shown: "−", what: "Zoom out", run: does((c) => c.editor.zoom(0.8)) },
  { group: "View", keys: ["f"], shown: "F", what: "Fit the whole picture", run: does((c) => c.editor.fit()) },
  { group: "View", keys: ["h"], shown: "H + drag", what: "Move the view", run: does((c) => c.hold(true)) },
  {
    group: "View",
    keys: ["o"],
    shown: "O",
    what: "Outlines only, or filled",
    run: does((c) => c.toggleOutline()),
  },
  { group: "General", keys: ["Mod+z"], shown: "Ctrl + Z", what: "Undo", run: does((c) => c.editor.undo()) },
  {
    group: "General",
    keys: ["Mod+Shift+z", "Mod+y"],
    shown: "Ctrl + Shift + Z",
    what: "Redo",
    run: does((c) => c.editor.redo()),
  },
  {
    group: "General",
    keys: ["Escape"],
    shown: "Esc",
    what: "Cancel what the model is at, or a drawing; then let go of the prompt, the object, the canvas",
    run: (c) => c.escape(),
  },
  { group: "General", keys: ["?"], shown: "?", what: "This list", run: does((c) => c.toggleHelp()) },
];

/** What the mouse does, for the help sheet. */
export const POINTER_HELP: readonly (readonly [shown: string, what: string])[] = [
  ["Click", "Include this place"],
  ["Right click, Shift + click", "Exclude this place"],
  ["Click on a mask", "Select it, where nothing is selected"],
  ["Drag", "Draw a box, or paint with the brush"],
  ["In concept mode", "Click or drag: find all like this; with the right button: none like this"],
  ["Ctrl + click", "Select the object under the pointer"],
  ["Drag a marker or a box edge", "Move it"],
  ["Wheel", "Zoom at the pointer"],
  ["Middle drag", "Move the view"],
  ["Long press, two fingers", "Exclude; zoom and move (touch)"],
];

/**
 * Name of a key press. Shift counts only where it does not already make another character; a key that writes another
 * alphabet goes by its place on the keyboard.
 */
export function chord(event: KeyboardEvent): string {
  if (event.altKey) return "";
  const mod = event.ctrlKey || event.metaKey;
  const latin = event.key > "\u007f" ? /^Key([A-Z])$/.exec(event.code)?.[1] : undefined;
  const written = latin ?? event.key;
  const letter = written.length === 1 && written.toLowerCase() !== written.toUpperCase();
  const key = letter ? written.toLowerCase() : written;
  const shift = event.shiftKey && (mod || event.key.length > 1 || letter);
  return `${mod ? "Mod+" : ""}${shift ? "Shift+" : ""}${key}`;
}

export function findBinding(key: string): Binding | undefined {
  return BINDINGS.find((binding) => binding.keys.includes(key));
}

/** Keys typed into a field are the field's own. */
export function dispatchKey(event: KeyboardEvent, onCanvas: boolean, context: KeyContext): void {
  if (event.isComposing || event.defaultPrevented) return;
  if (isTyping(event)) return;
  const key = chord(event);
  const binding = findBinding(key);
  if (binding === undefined || (binding.canvas && !onCanvas)) return;
  const again = binding.once === true && event.repeat;
  if (!again && binding.run(context, key) === false) return;
  event.preventDefault();
  event.stopPropagation();
}
