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

export function hideStill(element: HTMLElement, signal: AbortSignal): void {
  let hidden: Element | null = null;
  const update = () => {
    const child = element.closest(".jp-OutputArea-child");
    const next = child?.nextElementSibling ?? null;
    const image = next?.matches(".jp-OutputArea-child") ? next.querySelector("img") : null;
    const still = image && isStill(image.src) ? next : null;
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
