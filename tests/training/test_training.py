"""The training of the built-in model: scenes, simulated users, and a run that goes on where it was stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
import torch

from benchmarks import clicks
from sam3_widget.models.builtin.model import WEIGHTS
from training.builtin import train, users
from training.builtin.pictures import SHARES, Library, read_picture
from training.builtin.scenes import LARGEST_SHARE, SMALLEST_SHARE, make_scene
from training.builtin.train import Scenes, Training, mask_loss, parser

if TYPE_CHECKING:
    from argparse import Namespace
    from pathlib import Path

    from numpy.typing import NDArray


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data folder with a few drawn pictures in each set."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for name in (*SHARES, "grabcut50"):
        for kind in ("images", "masks"):
            (root / name / kind).mkdir(parents=True)
        for number in range(5):
            image = cv2.GaussianBlur(rng.integers(0, 256, (150, 200, 3), np.uint8), (0, 0), 2)
            ids = np.zeros((150, 200), np.uint8)
            for index in (1, 2, 3):
                centre = (int(rng.integers(30, 170)), int(rng.integers(30, 120)))
                cv2.circle(ids, centre, 24, index, -1)
                cv2.circle(image, centre, 24, rng.integers(0, 256, 3).tolist(), -1)
            cv2.imwrite(str(root / name / "images" / f"{number}.jpg"), image)
            cv2.imwrite(str(root / name / "masks" / f"{number}.png"), ids)
    return root


@pytest.fixture
def library(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Library:
    monkeypatch.setattr(clicks, "LEFT_OUT", 1)
    return Library(folder)


def options(folder: Path, work: Path, *more: str) -> Namespace:
    paths = [
        "--data",
        str(folder),
        "--work",
        str(work),
        "--out",
        str(work / "out.safetensors"),
        "--start",
        str(WEIGHTS),
    ]
    return parser().parse_args([*paths, "--steps", "20", "--workers", "0", *more])


def test_library_leaves_the_development_set_and_all_other_folders_out(folder: Path, library: Library) -> None:
    assert (folder / "grabcut50" / "images").is_dir()
    assert set(library.sets) == set(SHARES)
    assert all(len(found) == 4 for found in library.sets.values())
    rng = np.random.default_rng(0)
    assert {library.draw(rng).name.split("/")[0] for _ in range(200)} == set(SHARES)
    for name, found in library.sets.items():
        left_out = {image.name for image, _ in clicks.split(folder / name, development=True)}
        assert left_out.isdisjoint(picture.name.split("/")[-1] for picture in found)


def test_read_picture_separates_components_of_a_category(tmp_path: Path) -> None:
    categories = np.zeros((40, 60), np.uint8)
    categories[5:20, 5:15] = categories[5:20, 40:50] = 7
    categories[25:35, 20:30] = 9
    cv2.imwrite(str(tmp_path / "a.png"), categories)
    cv2.imwrite(str(tmp_path / "a.jpg"), np.zeros((40, 60, 3), np.uint8))
    shoes = read_picture("ccp1004", tmp_path / "a.jpg", tmp_path / "a.png")
    assert len(shoes.wholes) == 3
    assert len(read_picture("feralcat", tmp_path / "a.jpg", tmp_path / "a.png").wholes) == 0


@pytest.mark.parametrize("seed", range(8))
def test_scene_of_a_seed_is_always_the_same_and_has_targets(library: Library, seed: int) -> None:
    first, again = (make_scene(library, np.random.default_rng(seed), 128, 4) for _ in range(2))
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.targets, again.targets)
    assert first.image.shape == (128, 128, 3)
    assert first.image.dtype == np.uint8
    shares = first.targets.mean((1, 2))
    assert ((shares >= SMALLEST_SHARE) & (shares <= LARGEST_SHARE)).all()


def square() -> NDArray[np.bool_]:
    truth = np.zeros((60, 80), np.bool_)
    truth[20:40, 20:50] = True
    return truth


@pytest.mark.parametrize("seed", range(10))
def test_users_click_what_is_wrong(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = square()
    half = truth.copy()
    half[:, 35:] = False
    x, y, positive = users.correct(half, truth, rng)
    assert positive
    assert (truth & ~half)[int(y), int(x)]
    grown = cv2.dilate(truth.astype(np.uint8), np.ones((9, 9))) > 0
    x, y, positive = users.correct(grown, truth, rng)
    assert not positive
    assert (grown & ~truth)[int(y), int(x)]
    assert truth[tuple(int(v) for v in users.correct(truth, truth, rng)[1::-1])]


@pytest.mark.parametrize("seed", range(10))
def test_users_draw_boxes_about_the_object(seed: int) -> None:
    x1, y1, x2, y2 = users.draw_box(square(), np.random.default_rng(seed))
    np.testing.assert_allclose((x1, y1, x2, y2), (20, 20, 50, 40), atol=10)
    assert x1 < x2
    assert y1 < y2


def test_mask_loss_is_least_for_the_truth() -> None:
    truth = torch.from_numpy(square())[None, None].float()
    right, shifted = truth * 12 - 6, truth.roll(6, 3) * 12 - 6
    losses = mask_loss(torch.cat((right, shifted, -right), 1), truth)[0]
    assert losses[0] < losses[1] < losses[2]
    assert losses[0] < 0.05


def test_training_goes_on_as_if_it_had_not_been_stopped(folder: Path, library: Library, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    batches = [Scenes(library, 20, 0, 0)[index] for index in range(2)]
    whole = Training(options(folder, tmp_path))
    for batch in batches:
        whole.learn(batch)
    stopped = Training(options(folder, tmp_path))
    stopped.learn(batches[0])
    stopped.save()
    resumed = Training(options(folder, tmp_path))
    assert resumed.step == 1
    # The loader goes on with the batch that the step asks for.
    later = Scenes(library, 20, 0, resumed.step)[0]
    assert torch.equal(later.images, batches[1].images)
    resumed.learn(later)
    for (name, expected), found in zip(
        whole.average.state_dict().items(), resumed.average.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(found, expected, msg=name)


def test_training_tells_options_that_changed_on_the_way(
    folder: Path, library: Library, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Training(options(folder, tmp_path)).save()
    Training(options(folder, tmp_path))
    assert capsys.readouterr().out == ""
    changed = options(folder, tmp_path, "--seed", "5")
    Training(changed)
    assert capsys.readouterr().out == "going on from step 0 with --seed 5, until now it was 0\n"


def test_train_writes_weights_that_load(folder: Path, library: Library, tmp_path: Path) -> None:
    from sam3_widget.models.builtin import BuiltinModel  # noqa: PLC0415

    given = options(folder, tmp_path, "--threads", "1", "--report", "1")
    given.steps = 1
    train.train(given)
    assert BuiltinModel(given.out).encode(np.zeros((30, 40, 3), np.uint8)).nbytes > 0
