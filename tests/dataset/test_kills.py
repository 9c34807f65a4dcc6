"""A process that is killed while it labels loses nothing of what it was told to be on the disk."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from sam3_widget.io import read_coco
from tests.dataset.folders import COUNT, drawn

ROOT = Path(__file__).parents[2]


class Known:
    """What was told to be on the disk.

    Attributes
    ----------
    statuses : dict
        What each image may be: what was decided last, and what was about to be when the process was killed.
    labels : dict
        What must be on each image.
    currents : set
        The image that was shown may be one of these.
    """

    def __init__(self):
        self.statuses = {k: {"open"} for k in range(COUNT)}
        self.labels = defaultdict(set)
        self.currents = {0}
        self.decided = 0

    def hear(self, line):
        word, told = line.split(" ", 1)
        values = json.loads(told)
        if word == "open":
            assert values[0] in self.currents
            self.currents = {values[0]}
        elif word == "will":
            self.statuses[values[0]].add(values[1])
        elif word == "did":
            self.statuses[values[0]] = {values[1]}
            self.labels[values[0]].update(values[2])
            self.decided += 1
        elif word == "left":
            self.labels[values[0]].update(values[1])
            self.currents = {values[2]}
        elif word == "flushed":
            self.labels[values[0]].update(values[1])
        return word


def kill_after(work, seed, lines, known):
    """Let a process work until it has told so many lines, and kill it then."""
    command = [sys.executable, "-m", "tests.dataset.clicker", str(work), str(seed)]
    out, seen = work / "labels.json", 0
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            for count, line in enumerate(process.stdout):
                word = known.hear(line)
                if out.exists() and out.stat().st_mtime_ns != seen:
                    seen = out.stat().st_mtime_ns
                    read_coco(out)  # at any moment it is whole
                if count >= lines or word == "done":
                    break
        finally:
            process.kill()
        for line in process.stdout.read().splitlines(keepends=True):
            if line.endswith("\n"):  # told before the kill
                known.hear(line)


@pytest.mark.parametrize("seed", range(4))
def test_what_was_told_to_be_on_the_disk_is_there_after_a_kill(work, out, opened, seed):
    chance, known = random.Random(seed), Known()  # noqa: S311 - any moment will do
    for run in range(2):  # the second one goes on from what the first has left
        kill_after(work, 10 * seed + run, chance.randrange(1, 60), known)
        # It may have gone to one more image than it could tell.
        known.currents = set(range(COUNT))
    data = opened()
    found = {}
    for k, entry in enumerate(data.entries):
        assert entry.status in known.statuses[k]
        live = data.show(k)
        live.settle()
        found[k] = dict(drawn(live).values())
        assert known.labels[k] <= set(found[k])
        for instance in live.state.instances:
            x, y = (int(number) for number in instance.label.split(".")[2:])
            assert live.mask(instance).window(x, y, x + 1, y + 1).all()
    data.flush()
    statuses = [entry.status for entry in data.entries]
    written = {Path(one.file_name).stem: {o.label: o.mask.to_bytes() for o in one.objects} for one in read_coco(out)}
    assert written == {f"{k:02d}": found[k] for k in range(COUNT) if statuses[k] == "accepted"}
    assert sum(data.counts.values()) == sum(len(found[k]) for k in found if statuses[k] != "rejected")


def test_a_kill_while_the_file_is_written_leaves_the_old_one(work, out, opened):
    data = opened()
    data.decide(0, "accepted")
    data.close()
    code = """
import os, signal, sys
from pathlib import Path
from sam3_widget.dataset.dataset import DataSet
from sam3_widget.labelling import output
from tests.toy import ToyModel

work = Path(sys.argv[1])
data = DataSet(work / "images", work / "labels.json", [], ToyModel())
put, left = output._put, int(sys.argv[2])

def slowly(file, value, *, first):
    global left
    put(file, value, first=first)
    file.flush()
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

output._put = slowly
for k in range(3):
    data.live.run("add_point", {"x": 10 + 20 * k, "y": 15, "label": "cat"})
for k in range(3):
    data.decide(k, "accepted")
print("decided", flush=True)
data.flush()
print("written", flush=True)
"""
    before = out.read_bytes()
    for left in (1, 3, 5):
        command = [sys.executable, "-c", code, str(work), str(left)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert "written" not in done.stdout
        assert out.read_bytes() == before
    again = opened()
    again.flush()
    assert {one.file_name: len(one.objects) for one in read_coco(out)}["images/02.png"] == 0
    assert [entry.status for entry in again.entries[:3]] == ["accepted"] * 3
    assert again.entries[0].count >= 3
