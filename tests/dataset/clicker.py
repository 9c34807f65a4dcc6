"""A process that labels a folder, and tells what is on the disk by now; tests kill it.

A line is a word and a JSON value. ``will`` is told before a decision, all others when the call has returned: ``did`` a
decision, ``left`` an image, ``flushed`` everything. Labels hold where the click was: ``seed.number.x.y``.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sam3_widget.dataset import store
from sam3_widget.dataset.dataset import DataSet
from sam3_widget.dataset.entries import STATUSES
from sam3_widget.saving import autosave
from tests.dataset.folders import CLASSES
from tests.toy import ToyModel

if TYPE_CHECKING:
    from sam3_widget.live import LiveDocument

STEPS = 400


def tell(word: str, *values: object) -> None:
    print(word, json.dumps(values), flush=True)  # noqa: T201


def named(live: LiveDocument, *, answered: bool) -> list[str]:
    """Return the labels of the objects that are there, and of those that wait for the model."""
    return [i.label for i in live.state.instances if not answered or live.mask(i).area]


def main(work: str, seed: int) -> None:
    """Click, decide and go about at random; at last wait to be killed."""
    chance = random.Random(seed)  # noqa: S311 - any moment will do
    # Files are written now often, now late, so that a kill finds each of them ahead of the others.
    store._DELAY = chance.choice((0.002, 0.5))
    autosave.DELAY = chance.choice((0.002, 0.2))
    data = DataSet(Path(work, "images"), Path(work, "labels.json"), CLASSES, ToyModel())
    tell("open", data.current)
    for number in range(STEPS):
        index, step = data.current, chance.random()
        with data.live.lock:
            answered, said = named(data.live, answered=True), named(data.live, answered=False)
        if step < 0.5:
            x, y = chance.randrange(80), chance.randrange(60)
            args = {"x": x, "y": y, "label": f"{seed}.{number}.{x}.{y}"}
            data.live.run("add_point", args, wait=chance.random() < 0.7)
        elif step < 0.7:
            status = chance.choice(STATUSES)
            tell("will", index, status)
            data.decide(index, status)
            tell("did", index, status, answered)
        elif step < 0.95:
            to = chance.randrange(len(data.entries))
            data.show(to)
            data.look_ahead(id)
            tell("left", index, answered, to)
        else:
            data.flush()
            tell("flushed", index, said)
    data.flush()
    tell("done")
    sys.stdin.readline()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
