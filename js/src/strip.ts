/** A row that scrolls sideways, without a bar: it fades where there is more, and the wheel moves it. */

export class Strip {
  #element: HTMLElement;

  constructor(element: HTMLElement, signal: AbortSignal) {
    this.#element = element;
    element.addEventListener("scroll", () => this.fade(), { signal, passive: true });
    element.addEventListener("wheel", (event) => this.#wheel(event), { signal, passive: false });
    const observer = new ResizeObserver(() => this.fade());
    observer.observe(element);
    signal.addEventListener("abort", () => observer.disconnect());
  }

  /** After any change of what is in it. */
  fade(): void {
    const { scrollLeft, scrollWidth, clientWidth, classList } = this.#element;
    classList.toggle("sam3w-more-before", scrollLeft > 1);
    classList.toggle("sam3w-more-after", scrollLeft + clientWidth < scrollWidth - 1);
  }

  /** By hand: `scrollIntoView` would scroll the page as well. */
  reveal({ offsetLeft, offsetWidth }: Pick<HTMLElement, "offsetLeft" | "offsetWidth">): void {
    const strip = this.#element;
    const end = offsetLeft + offsetWidth;
    // What is wider than the strip shows its beginning.
    if (offsetLeft < strip.scrollLeft || offsetWidth > strip.clientWidth) strip.scrollLeft = offsetLeft;
    else if (end > strip.scrollLeft + strip.clientWidth) strip.scrollLeft = end - strip.clientWidth;
    this.fade();
  }

  /** A page must still scroll under a wheel that finds nothing to move here. */
  #wheel(event: WheelEvent): void {
    if (event.ctrlKey || event.metaKey || event.deltaX !== 0) return;
    const strip = this.#element;
    const before = strip.scrollLeft;
    strip.scrollLeft += event.deltaY * (event.deltaMode === 1 ? 16 : 1);
    if (strip.scrollLeft !== before) event.preventDefault();
  }
}
