from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from sam3_widget import Job, label_images
from sam3_widget.core.runs import RunLengths
from sam3_widget.errors import FormatError, InvalidPromptError, LockedError
from sam3_widget.io.coco import read_coco
from tests.toy import ToyModel

COUNT = 12
SPOTS = {"red": (0, (5, 5, 25, 25)), "green": (1, (40, 5, 60, 25))}


@pytest.fixture
def folder(tmp_path) -> Path:
    """Return a folder of pictures, each with a red and a green spot."""
    images = tmp_path / "images"
    images.mkdir()
    for k in range(COUNT):
        pixels = np.full((60, 80, 3), 100 + k, np.uint8)
        for channel, (x1, y1, x2, y2) in SPOTS.values():
            pixels[y1:y2, x1:x2] = 0
            pixels[y1:y2, x1:x2, channel] = 250
        Image.fromarray(pixels).save(images / f"{k:02d}.png")
    return images


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # within pycocotools
def test_every_image_is_labelled_with_every_concept(folder, tmp_path):
    out = tmp_path / "out.json"
    seen = []
    result = label_images(folder, out, text=["red", "green"], model=ToyModel(), progress=seen.append)
    assert (result.images, result.objects, result.resumed, result.failed) == (COUNT, 2 * COUNT, 0, {})
    assert seen[0] == 0
    assert seen[-1] == 1
    assert seen == sorted(seen)
    annotations = read_coco(out)
    assert [a.file_name for a in annotations] == [f"images/{k:02d}.png" for k in range(COUNT)]
    for found in annotations[3].objects:
        x1, y1, x2, y2 = SPOTS[found.label][1]
        assert found.mask.window(x1 + 2, y1 + 2, x2 - 2, y2 - 2).all()
        assert found.score == pytest.approx(0.95, abs=0.2)
    theirs = COCO(str(out))
    assert [c["name"] for c in theirs.loadCats(theirs.getCatIds())] == ["red", "green"]
    annotation = theirs.loadAnns([1])[0]
    ours = next(o for o in annotations[0].objects if o.object_id == annotation["object_id"])
    np.testing.assert_array_equal(theirs.annToMask(annotation).astype(bool), ours.mask.to_mask())


def test_prompts_of_each_image_serve_a_model_without_words(folder, tmp_path):
    out = tmp_path / "out.json"

    def prompts(path):
        return [Job(path, points=[(15, 15)], label="spot"), Job(path, points=[(50, 15)])]

    result = label_images(sorted(folder.iterdir())[:3], out, prompts=prompts, model=ToyModel())
    assert result.objects == 6
    assert {o.label for a in read_coco(out) for o in a.objects} == {"spot", "object"}


def test_second_run_does_nothing_twice(folder, tmp_path):
    out, model = tmp_path / "out.json", ToyModel()
    first = label_images(folder, out, text="red", model=model)
    asked = len(model.detected)
    before = out.read_text()
    second = label_images(folder, out, text="red", model=model)
    assert len(model.detected) == asked
    assert (second.images, second.objects, second.resumed) == (first.images, first.objects, COUNT)
    assert out.read_text() == before


def test_image_that_fails_takes_no_other_with_it_and_is_tried_again(folder, tmp_path):
    out = tmp_path / "out.json"
    broken = folder / "05.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:60])
    result = label_images(folder, out, text="red", model=ToyModel())
    assert result.images == COUNT - 1
    assert list(result.failed) == [str(broken)]
    assert "05.png" in str(result)
    broken.write_bytes(whole)
    again = label_images(folder, out, text="red", model=ToyModel())
    assert (again.images, again.resumed, again.failed) == (COUNT, COUNT - 1, {})


def test_model_that_fails_on_a_batch_is_asked_image_by_image(folder, tmp_path):
    model = ToyModel()
    model.fails = RuntimeError("out of memory")
    prompts = lambda path: [Job(path, points=[(15, 15)])]  # noqa: E731 - a line of a test
    result = label_images(folder, tmp_path / "out.json", prompts=prompts, model=model, batch_size=3)
    assert (result.images, result.failed) == (COUNT, {})


def test_model_that_fails_is_told_of_by_image(folder, tmp_path):
    class Failing(ToyModel):
        def refine(self, *_):
            raise RuntimeError("out of memory")

    prompts = lambda path: [Job(path, points=[(15, 15)])]  # noqa: E731 - a line of a test
    result = label_images(folder, tmp_path / "out.json", prompts=prompts, model=Failing(), batch_size=3)
    assert (result.images, len(result.failed)) == (0, COUNT)
    assert all("out of memory" in why for why in result.failed.values())


def test_progress_that_raises_keeps_what_is_finished(folder, tmp_path):
    out = tmp_path / "out.json"

    def progress(fraction):
        if fraction > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        label_images(folder, out, text="red", model=ToyModel(), batch_size=2, progress=progress)
    assert not out.exists()
    assert label_images(folder, out, text="red", model=ToyModel()).resumed == 8


def test_other_question_is_refused_and_loses_nothing(folder, tmp_path):
    out = tmp_path / "out.json"
    label_images(folder, out, text="red", model=ToyModel())
    before = out.read_text()
    with pytest.raises(FormatError, match="another run"):
        label_images(folder, out, text="green", model=ToyModel())
    assert out.read_text() == before


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({}, "expected text, or prompts"),
        ({"text": ""}, "text"),
        ({"text": "red", "batch_size": 0}, "batch_size"),
        ({"prompts": "red"}, "function"),
        ({"text": "red", "engine": "dask"}, "engine"),
        ({"text": "red", "images": []}, "no images"),
        ({"text": "red", "images": "nowhere"}, "folder"),
    ],
)
def test_what_makes_no_sense_is_refused(folder, tmp_path, given, match):
    rest = dict(given)
    with pytest.raises(InvalidPromptError, match=match):
        label_images(rest.pop("images", folder), tmp_path / "out.json", model=ToyModel(), **rest)
    assert not (tmp_path / "out.json").exists()


def test_file_that_is_no_journal_is_left_alone(folder, tmp_path):
    journal = tmp_path / "out.json.journal"
    journal.write_text("my diary\n")
    with pytest.raises(FormatError, match="not the journal"):
        label_images(folder, tmp_path / "out.json", text="red", model=ToyModel())
    assert journal.read_text() == "my diary\n"


RUN = """
import sys, time
from sam3_widget import label_images
from tests.toy import ToyModel

class Slow(ToyModel):
    def encode(self, image, progress=lambda _: None):
        time.sleep(0.01)
        return super().encode(image, progress)

folder, out = sys.argv[1:]
print("begins", flush=True)
label_images(folder, out, text=["red"], model=Slow(), batch_size=1, progress=lambda f: print(f, flush=True))
"""


def start(folder, out):
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", RUN, str(folder), str(out)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root)


def test_killed_run_loses_no_image_that_it_had_finished(folder, tmp_path):
    out, rng = tmp_path / "out.json", np.random.default_rng(4)
    finished = 0.0
    for _ in range(6):
        with start(folder, out) as running:
            assert running.stdout.readline() == "begins\n"
            time.sleep(rng.uniform(0, 0.25))
            running.send_signal(signal.SIGKILL)
            told = running.stdout.read().split()
        if told:
            assert float(told[0]) >= finished  # what was told to be finished is never done again
            finished = float(told[-1])
        if out.exists():
            json.loads(out.read_text())
    result = label_images(folder, out, text=["red"], model=ToyModel())
    assert result.resumed >= round(finished * COUNT)
    assert (result.images, result.objects) == (COUNT, COUNT)
    assert len({a.file_name for a in read_coco(out)}) == COUNT


def test_second_process_on_one_file_is_refused(folder, tmp_path):
    out = tmp_path / "out.json"
    running = start(folder, out)
    try:
        assert running.stdout.readline() == "begins\n"
        running.stdout.readline()
        running.send_signal(signal.SIGSTOP)
        with pytest.raises(LockedError, match="in use by process"):
            label_images(folder, out, text=["red"], model=ToyModel())
    finally:
        running.send_signal(signal.SIGCONT)
        running.communicate()
    assert len(read_coco(out)) == COUNT


def test_line_that_was_cut_off_is_done_again(folder, tmp_path):
    out = tmp_path / "out.json"
    label_images(folder, out, text="red", model=ToyModel())
    journal = tmp_path / "out.json.journal"
    data = journal.read_bytes()
    journal.write_bytes(data[:-20])
    result = label_images(folder, out, text="red", model=ToyModel())
    assert (result.images, result.resumed) == (COUNT, COUNT - 1)
    assert journal.read_bytes() == data


@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore")  # of Ray's own, many
def test_ray_makes_the_same_file(folder, tmp_path):
    ray = pytest.importorskip("ray")
    here, there = tmp_path / "here.json", tmp_path / "there.json"
    files = sorted(folder.iterdir())[:4]
    label_images(files, here, prompts=spots, model="builtin")
    ray.init(
        num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": {"OMP_NUM_THREADS": "1"}}
    )
    try:
        result = label_images(files, there, prompts=spots, model="builtin", engine="ray", workers=1, batch_size=2)
        again = label_images(files, there, prompts=spots, model="builtin", engine="ray", workers=1)
    finally:
        ray.shutdown()
    assert (result.images, result.failed, again.resumed) == (4, {}, 4)
    assert masks(there) == masks(here)


def spots(path):
    return [
        Job(path, points=[((x1 + x2) / 2, (y1 + y2) / 2)], label=name) for name, (_, (x1, y1, x2, y2)) in SPOTS.items()
    ]


def masks(out):
    told = {}
    for annotation in read_coco(out):
        for found in annotation.objects:
            told[annotation.file_name, found.label] = found.mask.to_bytes()
    assert all(RunLengths.from_bytes(mask).area for mask in told.values())
    return told


def test_loaded_model_cannot_travel(folder, tmp_path):
    with pytest.raises(InvalidPromptError, match="name or folder"):
        label_images(folder, tmp_path / "out.json", text="red", model=ToyModel(), engine="ray")
