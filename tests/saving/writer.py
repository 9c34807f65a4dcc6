"""A process that says things to a session that saves itself, and tells what is saved; tests kill it."""

from __future__ import annotations

import sys

import numpy as np

from sam3_widget import Session
from tests.toy import ToyModel

IMAGE = np.full((60, 80, 3), 128, np.uint8)


def main(path: str, steps: int) -> None:
    """Click, and say how many commands are in the file by now; at last wait to be killed."""
    session = Session(IMAGE, ToyModel(), autosave=path)
    print("open", len(session.history), flush=True)  # noqa: T201
    for k in range(steps):
        session.add_point(5 + (7 * k) % 70, 5 + (11 * k) % 50, object_id=None if k % 5 == 0 else session.selected)
        if k % 3 == 0:
            session.flush()
            print("saved", len(session.history), flush=True)  # noqa: T201
    session.flush()
    print("done", len(session.history), flush=True)  # noqa: T201
    sys.stdin.readline()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
