"""What a person feels in JupyterLab, in one run: ``python benchmarks/browser.py``.

* Click to paint: from the pointer's release to the canvas that shows the answer's revision, less the kernel's own time,
  beside the round trip of an empty widget on the same page.
* Pan and zoom with 100 instances on 12 megapixels: frames a second, and the memory of the page.
* Scrubbing a 1080p clip with three objects on every frame: from the step to the painted frame, where it was fetched
  ahead, and for a leap to a frame that was not.

It starts a real JupyterLab and a real Chromium, without a GPU.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.e2e.lab import Lab
from tests.e2e.page import BROWSER_ARGUMENTS, NotebookPage, WidgetView, write_notebook

if TYPE_CHECKING:
    from playwright.sync_api import Page

EMPTY = """
import anywidget

class Empty(anywidget.AnyWidget):
    _esm = '''
    export default { render({ model, el }) {
        el.dataset.empty = "";
        let resolve = null;
        model.on("msg:custom", () => resolve?.());
        el.ping = () => new Promise((done) => {
            const start = performance.now();
            resolve = () => done(performance.now() - start);
            model.send({});
        });
    } };'''

empty = Empty()
empty.on_msg(lambda widget, content, buffers: widget.send({}))
empty
"""

CLICKS = """
import time
import numpy as np
from sam3_widget import Sam3Widget

rng = np.random.default_rng(0)
image = np.full((800, 1200, 3), 90, np.uint8) + rng.integers(0, 20, (800, 1200, 3), np.uint8)
for k in range(12):
    x, y = 150 + 280 * (k % 4), 150 + 250 * (k // 4)
    image[y - 60:y + 60, x - 60:x + 60] = (200, 160 - 8 * k, 20 + 15 * k)
w = Sam3Widget(image)
spent = []
receive = w._receive
def timed(content):
    start = time.perf_counter()
    receive(content)
    live = w._live
    with live.lock:
        live.lock.wait_for(lambda: not any(i.pending for i in live.state.instances))
    spent.append(time.perf_counter() - start)
w._msg_callbacks.callbacks.clear()
w.on_msg(lambda _, content, __: timed(content))
w
"""

CROWD = """
import cv2
import numpy as np
from sam3_widget import Sam3Widget
from sam3_widget.core.runs import RunLengths

rng = np.random.default_rng(0)
image = cv2.resize(rng.integers(0, 255, (30, 40, 3), np.uint8), (4000, 3000), interpolation=cv2.INTER_CUBIC)
w = Sam3Widget(image)
ys, xs = np.mgrid[:3000, :4000]
for k in range(100):
    x, y = 200 + 400 * (k % 10), 150 + 300 * (k // 10)
    angle = np.arctan2(ys[y - 140:y + 140, x - 190:x + 190] - y, xs[y - 140:y + 140, x - 190:x + 190] - x)
    near = np.hypot((xs[y - 140:y + 140, x - 190:x + 190] - x) / 1.3, ys[y - 140:y + 140, x - 190:x + 190] - y)
    blob = near < 110 + 15 * np.sin(angle * 7 + k)
    w.set_mask(RunLengths.from_window(blob, x - 190, y - 140, 3000, 4000))
w
"""

CLIP = """
import av
import numpy as np
import tempfile
from pathlib import Path
from sam3_widget import Sam3VideoWidget
from sam3_widget.core.runs import RunLengths

T, H, W = 240, 1080, 1920
rng = np.random.default_rng(0)
ground = rng.integers(60, 120, (H // 4, W // 4, 3), np.uint8).repeat(4, 0).repeat(4, 1)
path = Path(tempfile.mkdtemp()) / "clip.mp4"
ys, xs = np.mgrid[:300, :300] - 150
blob = np.hypot(xs, ys) < 110 + 25 * np.sin(np.arctan2(ys, xs) * 7)
masks = {k: {} for k in (1, 2, 3)}
with av.open(path, "w") as file:
    stream = file.add_stream("libx264", rate=25)
    stream.width, stream.height, stream.pix_fmt, stream.options = W, H, "yuv420p", {"preset": "ultrafast"}
    for t in range(T):
        frame = ground.copy()
        for k in masks:
            x, y = 40 + 6 * t, 20 + 340 * (k - 1)
            frame[y:y + 300, x:x + 300][blob] = (200, 60 * k, 40)
            masks[k][t] = RunLengths.from_window(blob, x, y, H, W)
        file.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
    file.mux(stream.encode())
w = Sam3VideoWidget(path)
w.load_masks(masks)
w
"""

SCRUB = """
async ([root, goals]) => {
    const timeline = root.querySelector("[data-testid=sam3w-timeline]");
    const field = root.querySelector("[data-testid=sam3w-frame-field]");
    const next = () => new Promise((done) => requestAnimationFrame(done));
    const spent = [];
    for (const goal of goals) {
        const start = performance.now();
        if (goal === null) root.querySelector("[data-testid=sam3w-step-forward]").click();
        else { field.value = goal; field.dispatchEvent(new Event("change")); }
        const wanted = goal === null ? String(Number(timeline.dataset.sam3wFrame) + 1) : String(goal);
        do await next(); while (timeline.dataset.sam3wFrame !== wanted);
        await new Promise((done) => setTimeout(done));  // the frame is painted
        spent.push(performance.now() - start);
        await new Promise((done) => setTimeout(done, goal === null ? 40 : 1500));
    }
    return spent;
}
"""

CLICK_TO_PAINT = """
([root, canvas, x, y]) => new Promise((done) => {
    const before = Number(root.dataset.sam3wRevision);
    const start = performance.now();
    const watch = new MutationObserver(() => {
        if (Number(root.dataset.sam3wRevision) >= before + 2 && root.dataset.sam3wState === "ready") {
            watch.disconnect();
            done(performance.now() - start);
        }
    });
    watch.observe(root, { attributes: true });
    const box = canvas.getBoundingClientRect();
    const at = { bubbles: true, cancelable: true, clientX: box.left + x, clientY: box.top + y, pointerId: 1,
                 pointerType: "mouse", isPrimary: true, button: 0 };
    canvas.dispatchEvent(new PointerEvent("pointerdown", { ...at, buttons: 1 }));
    canvas.dispatchEvent(new PointerEvent("pointerup", { ...at, buttons: 0 }));
})
"""

FRAMES = """
([canvas, kind, seconds]) => new Promise((done) => {
    const box = canvas.getBoundingClientRect();
    const x = box.left + box.width / 2, y = box.top + box.height / 2;
    let frames = 0, last = canvas.dataset.sam3wTransform;
    const start = performance.now();
    const send = (type, options) => canvas.dispatchEvent(new PointerEvent(type, {
        bubbles: true, cancelable: true, pointerId: 1, pointerType: "mouse", isPrimary: true, button: 1, ...options }));
    if (kind === "pan") send("pointerdown", { clientX: x, clientY: y, buttons: 4 });
    const step = () => {
        const now = performance.now() - start;
        if (canvas.dataset.sam3wTransform !== last) { frames += 1; last = canvas.dataset.sam3wTransform; }
        if (now > 1000 * seconds) {
            if (kind === "pan") send("pointerup", { clientX: x, clientY: y, buttons: 0 });
            done(frames / (now / 1000));
            return;
        }
        const turn = now / 1000 * 2 * Math.PI / (kind === "pan" ? 3 : 0.8);
        const [dx, dy] = [150 * Math.sin(turn), 90 * Math.sin(2 * turn)];
        if (kind === "pan") send("pointermove", { clientX: x + dx, clientY: y + dy, buttons: 4 });
        else canvas.dispatchEvent(new WheelEvent("wheel", { bubbles: true, cancelable: true, ctrlKey: true,
            clientX: x + 60, clientY: y + 40, deltaY: Math.sin(turn) > 0 ? -25 : 25 }));
        requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
})
"""


def show(lab: Lab, page: Page, name: str, cells: list[str]) -> NotebookPage:
    """Open a notebook of these cells and run them."""
    write_notebook(lab.notebooks / name, cells)
    notebook = NotebookPage(lab, page, name)
    notebook.open()
    notebook.run_all()
    return notebook


def click_to_paint(lab: Lab, page: Page, clicks: int) -> dict[str, float]:
    """Return medians in milliseconds."""
    notebook = show(lab, page, "clicks.ipynb", [EMPTY, CLICKS])
    view = notebook.widget(1)
    view.canvas.scroll_into_view_if_needed()
    handles = [view.root.element_handle(), view.canvas.element_handle()]
    pings, totals = [], []
    for k in range(clicks):
        pings.append(page.evaluate("() => document.querySelector('[data-empty]').ping()"))
        place = view.transform(150 + 280 * (k % 4), 150 + 250 * (k // 4 % 3))
        page.keyboard.press("m") if k else None
        totals.append(page.evaluate(CLICK_TO_PAINT, [*handles, *place]))
        view.wait_ready()
        page.evaluate("root => root.focus()", handles[0])
        page.keyboard.press("m")
        view.wait_ready()
    spent = [1000 * s for s in notebook.kernel.eval("spent")]
    commands = [s for s in spent if s > 0.0]
    work = statistics.median(sorted(commands)[-clicks:])
    notebook.close()
    total, ping = statistics.median(totals), statistics.median(pings)
    return {
        "empty_round_trip_ms": ping,
        "click_to_paint_ms": total,
        "kernel_ms": work,
        "click_to_paint_beyond_kernel_ms": total - work,
    }


def crowd(lab: Lab, page: Page, seconds: float) -> dict[str, float]:
    """Return frames a second and megabytes of the page with 100 instances on 12 megapixels."""
    show(lab, page, "bare.ipynb", ["1 + 1"]).close()
    bare = megabytes(page)
    notebook = show(lab, page, "crowd.ipynb", [CROWD])
    view: WidgetView = notebook.widget(0)
    view.canvas.scroll_into_view_if_needed()
    canvas = view.canvas.element_handle()
    zoom = page.evaluate(FRAMES, [canvas, "zoom", seconds])
    pan = page.evaluate(FRAMES, [canvas, "pan", seconds])
    with_widget = megabytes(page)
    notebook.close()
    return {
        "pan_frames_per_s": pan,
        "zoom_frames_per_s": zoom,
        "page_mb": with_widget,
        "page_without_widget_mb": bare,
        "page_beyond_jupyterlab_mb": with_widget - bare,
    }


def scrub(lab: Lab, page: Page, steps: int) -> dict[str, float]:
    """Return milliseconds from a step, and from a leap, to the painted frame of a 1080p clip."""
    notebook = show(lab, page, "clip.ipynb", [CLIP])
    root = notebook.widget(0).root.element_handle()
    page.wait_for_timeout(2000)
    walked = page.evaluate(SCRUB, [root, [None] * steps])
    leapt = page.evaluate(SCRUB, [root, [120, 200, 90, 150]])
    notebook.close()
    return {
        "scrub_step_ms": statistics.median(walked),
        "scrub_step_slowest_ms": max(walked),
        "scrub_leap_ms": statistics.median(leapt),
    }


def megabytes(page: Page) -> float:
    """Return the memory of the page's process after a collection: its proportional set size, canvases included."""
    page.wait_for_timeout(1500)
    page.context.new_cdp_session(page).send("HeapProfiler.collectGarbage")
    browser = page.context.browser
    processes = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
    sizes = []
    for process in processes:
        if process["type"] == "renderer":
            rollup = Path(f"/proc/{process['id']}/smaps_rollup").read_text()
            sizes.append(next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")))
    return max(sizes) / 1e3


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clicks", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--steps", type=int, default=100, help="frames to step through")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    args = parser.parse_args()
    browser_path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder, Lab(Path(folder)) as lab, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=BROWSER_ARGUMENTS)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        told: dict[str, Any] = {
            **click_to_paint(lab, page, args.clicks),
            **crowd(lab, page, args.seconds),
            **scrub(lab, page, args.steps),
        }
        browser.close()
    if args.json:
        print(json.dumps(told))
        return
    for name, value in told.items():
        print(f"{name:34} {value:8.1f}")


if __name__ == "__main__":
    main()
