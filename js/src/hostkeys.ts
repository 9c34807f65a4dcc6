/** Which key presses the page around a widget gets to see. */

const SUPPRESS = "data-lm-suppress-shortcuts";
/** What edits text in a field: a few letters with Ctrl, and every key with a name, such as Backspace. */
const EDITING = /^(?:[acvxyz]|.{2,})$/i;
const FIELD =
  "input:not([type=range], [type=checkbox]), textarea, select, [contenteditable]:not([contenteditable=false])";

/** Whether a key press goes into a field that a person types in. */
export function isTyping(event: Event): boolean {
  return event.target instanceof Element && event.target.closest(FIELD) !== null;
}

/** Bare keys are never the page's: a notebook in command mode cuts its cell on X and deletes it on D, D. */
function isForPage(event: KeyboardEvent): boolean {
  if (event.isComposing) return false;
  const mod = event.ctrlKey || event.metaKey;
  if (isTyping(event)) return mod && !event.altKey && !EDITING.test(event.key);
  return mod || event.altKey || /^F\d+$/.test(event.key);
}

/**
 * Keeps bare keys in, and lets through combinations that the widget has no use for, such as Ctrl+S. JupyterLab tests
 * the focused element before the ancestors that could suppress shortcuts, so the attribute alone keeps nothing in; and
 * what it suppresses is everything, so it is off while JupyterLab looks at a press that is for the page.
 */
export function shareKeys(root: HTMLElement, signal: AbortSignal): void {
  root.setAttribute(SUPPRESS, "true");
  root.addEventListener(
    "keydown",
    (event) => {
      if (!isForPage(event)) return event.stopPropagation();
      root.removeAttribute(SUPPRESS);
      setTimeout(() => root.setAttribute(SUPPRESS, "true"));
    },
    { signal },
  );
}
