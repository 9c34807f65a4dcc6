"""A still picture of the overlay, for places without a kernel: nbviewer, GitHub, PDF."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from sam3_widget.core.palette import rgb
from sam3_widget.widget.imagery import jpeg

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from sam3_widget.core.runs import RunLengths
    from sam3_widget.live import LivePicture

SIDE = 960
_MARKER = b"sam3_widget still"
_FILL, _QUALITY = 0.5, 85
_DELAY_SECONDS = 0.7
_OUTPUTS = 4  # the views shown longest ago are likely gone


def overlay(document: LivePicture, side: int = SIDE) -> NDArray[np.uint8]:
    """Draw the image with its visible masks and prompts.

    Parameters
    ----------
    document : LivePicture
    side : int
        Bound of the longer side in pixels.

    Returns
    -------
    (h, w, 3) uint8
    """
    image, state = document.image, document.state
    scale = min(1.0, side / max(image.width, image.height))
    width, height = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    picture = cv2.resize(image.pixels, (width, height), interpolation=cv2.INTER_AREA)
    ys = ((np.arange(height) + 0.5) * image.height / height).astype(np.int64)
    xs = ((np.arange(width) + 0.5) * image.width / width).astype(np.int64)
    shown = [(document.mask(i), i) for i in state.instances if i.visible]
    for runs, instance in sorted(shown, key=lambda pair: -pair[0].area):
        mask = _sampled(runs, ys, xs)
        colour = np.array(rgb(instance.color), np.float32)
        picture[mask] = (picture[mask] * (1 - _FILL) + colour * _FILL).astype(np.uint8)
        edges, _ = cv2.findContours(mask.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, edges, -1, rgb(instance.color), 2)
    for _, instance in shown:
        for point in instance.points:
            _marker(picture, int(point.x * scale), int(point.y * scale), positive=point.positive)
    return picture  # type: ignore[return-value]


def _sampled(runs: RunLengths, ys: NDArray[np.int64], xs: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return the mask at these rows and columns, decoding no more than the box it fills."""
    mask = np.zeros((len(ys), len(xs)), np.bool_)
    if runs.bbox:
        x1, y1, x2, y2 = runs.bbox
        rows, cols = np.nonzero((ys >= y1) & (ys < y2))[0], np.nonzero((xs >= x1) & (xs < x2))[0]
        mask[np.ix_(rows, cols)] = runs.window(*runs.bbox)[np.ix_(ys[rows] - y1, xs[cols] - x1)]
    return mask


def _marker(picture: Any, x: int, y: int, *, positive: bool) -> None:  # noqa: ANN401 - OpenCV's own array type
    fill = (0, 135, 62) if positive else (200, 30, 30)
    cv2.circle(picture, (x, y), 7, (255, 255, 255), cv2.FILLED, cv2.LINE_AA)
    cv2.circle(picture, (x, y), 6, fill, cv2.FILLED, cv2.LINE_AA)
    cv2.line(picture, (x - 3, y), (x + 3, y), (255, 255, 255), 1, cv2.LINE_AA)
    if positive:
        cv2.line(picture, (x, y - 3), (x, y + 3), (255, 255, 255), 1, cv2.LINE_AA)


def still(document: LivePicture) -> bytes:
    """Return the overlay as JPEG; a comment in the file's head lets the front end know it as ours."""
    data = jpeg(overlay(document), _QUALITY)
    comment = b"\xff\xfe" + (len(_MARKER) + 2).to_bytes(2, "big") + _MARKER
    return data[:2] + comment + data[2:]


class Stills:
    """The outputs of a notebook that hold the still, kept up to date shortly after a change.

    Parameters
    ----------
    draw : callable
        Returns the JPEG.
    """

    def __init__(self, draw: Callable[[], bytes]) -> None:
        self._draw = draw
        self._handles: list[Any] = []
        self._timer: threading.Timer | None = None
        self._lock = threading.Lock()

    def show(self) -> None:
        """Add an output below the one just displayed; the live view hides it."""
        from IPython.display import display  # noqa: PLC0415 - there is no notebook without IPython

        drawn = {"image/jpeg": self._draw()}
        handle: Any = display(drawn, raw=True, display_id=True)  # type: ignore[no-untyped-call]
        if handle is not None:
            self._handles = [*self._handles[1 - _OUTPUTS :], handle]

    def outdated(self) -> None:
        """Draw again soon; changes in quick succession are drawn once."""
        with self._lock:
            if self._timer is None and self._handles:
                self._timer = threading.Timer(_DELAY_SECONDS, self._refresh)
                self._timer.start()

    def _refresh(self) -> None:
        with self._lock:
            self._timer = None
        data = self._draw()
        for handle in self._handles:
            handle.update({"image/jpeg": data}, raw=True)
