/** Entry point for anywidget. */

import type { Model } from "./connection";
import { hideStill } from "./still";
import { View } from "./view";

interface RenderProps {
  model: Model;
  el: HTMLElement;
  signal?: AbortSignal;
}

/** Hosts differ: some abort a signal when a view goes, older ones call what render returned; either ends the view. */
function render({ model, el, signal }: RenderProps): () => void {
  const controller = new AbortController();
  const end = () => controller.abort();
  if (signal?.aborted) return end;
  signal?.addEventListener("abort", end, { signal: controller.signal });
  const view = new View(model, controller.signal);
  el.append(view.element);
  view.start();
  hideStill(el, controller.signal);
  return end;
}

export default { render };
