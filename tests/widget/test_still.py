import time

import cv2
import numpy as np
import pytest

from sam3_widget import Sam3Widget, Session
from sam3_widget.widget.still import overlay, still
from tests.toy import ToyModel

IMAGE = np.full((600, 1920, 3), 128, np.uint8)


@pytest.fixture
def session():
    session = Session(IMAGE, model=ToyModel())
    session.add_box((200, 100, 900, 500))
    return session


def test_overlay_colours_the_mask_and_nothing_else(session):
    picture = overlay(session._live)
    assert picture.shape == (300, 960, 3)
    assert picture[150, 250].tolist() != [128, 128, 128]
    assert picture[20, 20].tolist() == [128, 128, 128]
    session.set_visible(1, visible=False)
    assert overlay(session._live)[150, 250].tolist() == [128, 128, 128]


def test_still_is_a_jpeg_that_says_whose_it_is(session):
    data = still(session._live)
    assert b"sam3_widget still" in data[:90]
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape == (300, 960, 3)


def test_display_shows_the_view_then_the_still_and_updates_it(monkeypatch):
    shown, updated = [], []

    class Handle:
        def update(self, data, raw):
            assert raw
            updated.append(data["image/jpeg"])

    def display(data, **options):
        shown.append(data)
        return Handle() if options.get("display_id") else None

    monkeypatch.setattr("IPython.display.display", display)
    widget = Sam3Widget(IMAGE, model=ToyModel())
    widget._ipython_display_()
    assert "application/vnd.jupyter.widget-view+json" in shown[0]
    assert list(shown[1]) == ["image/jpeg"]
    widget.add_box((200, 100, 900, 500))
    deadline = time.monotonic() + 30
    while not updated and time.monotonic() < deadline:
        time.sleep(0.02)
    assert updated[-1] == still(widget._live)
    assert updated[-1] != shown[1]["image/jpeg"]
