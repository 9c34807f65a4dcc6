/** A saved notebook holds a picture for places without a kernel; beside a live view it would only be a double. */

const MARK = "sam3_widget still";
const PREFIX = "data:image/jpeg;base64,";
const HIDDEN = "sam3w-hidden-still";

export function isStill(source: string): boolean {
  if (!source.startsWith(PREFIX)) return false;
  // 160 characters are 120 bytes: the mark stands in the first comment of the file.
  const head = source.slice(PREFIX.length, PREFIX.length + 160).replace(/\s/g, "");
  try {
    return atob(head.slice(0, head.length - (head.length % 4))).includes(MARK);
  } catch {
    return false;
  }
}

/** What a cell prints may lie between a view and its still; the still of another view lies after that view. */
function stillAfter(view: Element | null): Element | null {
  for (let next = view?.nextElementSibling ?? null; next !== null; next = next.nextElementSibling) {
    if (next.querySelector(".sam3w") !== null) return null;
    const image = next.querySelector("img");
    if (image !== null && isStill(image.src)) return next;
  }
  return null;
}

export function hideStill(element: HTMLElement, signal: AbortSignal): void {
  let hidden: Element | null = null;
  const update = () => {
    const still = stillAfter(element.closest(".jp-OutputArea-child"));
    if (still === hidden) return;
    hidden?.classList.remove(HIDDEN);
    still?.classList.add(HIDDEN);
    hidden = still;
  };
  const observer = new MutationObserver(update);
  const start = () => {
    const area = element.closest(".jp-OutputArea");
    if (area === null || signal.aborted) return area !== null;
    observer.observe(area, { childList: true, subtree: true, attributes: true, attributeFilter: ["src"] });
    update();
    return true;
  };
  // The element is rendered before it is put into the page.
  if (!start()) requestAnimationFrame(() => start() || setTimeout(start, 500));
  signal.addEventListener("abort", () => {
    observer.disconnect();
    hidden?.classList.remove(HIDDEN);
  });
}
