/** Which images of a data set to go through, in which order, and how far the work has come. */

import { MARKS } from "./cells";
import { type Dataset, FILTERS, type Filter } from "./dataset";
import { icon, node, setAttribute, setText } from "./dom";

const NAMES: Record<Filter, string> = {
  all: "All",
  open: "To do",
  accepted: "Accepted",
  rejected: "Rejected",
  skipped: "Skipped",
  empty: "Empty",
};
const DECIDED = ["accepted", "rejected", "skipped"] as const;
const count = new Intl.NumberFormat("en");

export class Filters {
  readonly element = node("div", {
    class: "sam3w-filters",
    role: "group",
    "aria-label": "Images to go through",
  });
  readonly progress = node("div", { class: "sam3w-decided", role: "img", "data-testid": "sam3w-decided" });
  #chips = new Map<Filter, { chip: HTMLButtonElement; number: HTMLElement }>();
  #order = node(
    "button",
    { type: "button", class: "sam3w-filter", "data-testid": "sam3w-order" },
    icon("lowest"),
    "Lowest score first",
  );
  #parts = new Map(DECIDED.map((each) => [each, node("span", { "data-status": each })]));
  #dataset: Dataset;

  constructor(dataset: Dataset, takeFocus: () => void, signal: AbortSignal) {
    this.#dataset = dataset;
    for (const filter of FILTERS) this.#add(filter);
    this.element.append(node("span", { class: "sam3w-spring" }), this.#order);
    this.progress.append(...this.#parts.values());
    this.element.addEventListener(
      "click",
      (event) => {
        const button = (event.target as Element).closest<HTMLElement>("button");
        if (button === null) return;
        if (button === this.#order) dataset.order = dataset.order === "given" ? "score" : "given";
        else dataset.filter = button.dataset.filter as Filter;
        if (event.detail > 0) takeFocus();
      },
      { signal },
    );
  }

  update(): void {
    const { filter, order, counts, scored, length } = this.#dataset;
    for (const [each, { chip, number }] of this.#chips) {
      setAttribute(chip, "aria-pressed", String(each === filter));
      setText(number, count.format(counts[each]));
    }
    this.#order.hidden = !scored && order === "given";
    setAttribute(this.#order, "aria-pressed", String(order === "score"));
    const title =
      order === "score" ? "Press for the order as given" : "Press to begin with the least certain";
    setAttribute(this.#order, "title", title);
    for (const [status, part] of this.#parts) {
      const share = `${(100 * counts[status]) / Math.max(1, length)}%`;
      if (part.style.width !== share) part.style.width = share;
    }
    const words = `${length - counts.open} of ${length} decided: ${this.#dataset.tally}. Written to ${this.#dataset.out}`;
    setAttribute(this.progress, "title", words);
    setAttribute(this.progress, "aria-label", words);
  }

  #add(filter: Filter): void {
    const number = node("span", { class: "sam3w-count" });
    const mark = filter in MARKS ? icon(MARKS[filter as keyof typeof MARKS]) : null;
    const chip = node(
      "button",
      {
        type: "button",
        class: "sam3w-filter",
        "data-filter": filter,
        "data-testid": `sam3w-filter-${filter}`,
      },
      mark,
      NAMES[filter],
      number,
    );
    this.#chips.set(filter, { chip, number });
    this.element.append(chip);
  }
}
