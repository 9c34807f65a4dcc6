"""What one pass of the encoder saves, at SAM 3's full size with random weights: ``python benchmarks/sam3.py``.

Weights do not change how long a layer takes. Everything is timed in one run, clicks and their references in turn:

* a click as the model answers it (``refine``), over the bare forward of transformers' prompt encoder and mask decoder;
* a click as a session answers it (``add_point``, with the mask at the image's size), over the model's part of it;
* a click as a full forward, the encoder included;
* a phrase after the clicks, and the same as a full forward;
* a move of the score threshold, and the same as the official notebook does it, by running the detector again;
* an image seen before, whose encoding a file holds.

It needs about 8 GB of memory and five minutes on two CPU cores.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from skimage import data
from transformers import CLIPTokenizer, Sam3Model, Sam3TrackerModel, Sam3VideoConfig, Sam3VideoModel

from sam3_widget import Session
from sam3_widget.models.base import ConceptPrompts, InstancePrompts
from sam3_widget.models.sam3.model import Sam3

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from sam3_widget.models.base import Candidates, Embedding, Question

WORDS = ("cup", "spoon", "saucer", "wooden table")


def tokenizer() -> CLIPTokenizer:
    """Return a tokenizer of single letters: its words are as long as the real one's, padded."""
    letters = [f"{letter}{end}" for letter in "abcdefghijklmnopqrstuvwxyz" for end in ("", "</w>")]
    vocabulary = {token: k for k, token in enumerate([*letters, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=32)


def seconds(work: Callable[[], object]) -> float:
    """Return what one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def bare_click(video: Sam3VideoModel, encoded: torch.Tensor, x: float, y: float) -> Callable[[], object]:
    """Return the forward of transformers' prompt encoder and mask decoder for one click, with its features made."""
    tracker = video.tracker_model
    rows, columns = tracker.prompt_encoder.image_embedding_size
    with torch.inference_mode():
        spatial = encoded.view(1, rows, columns, -1).permute(0, 3, 1, 2)
        fine, middle, coarse = video.tracker_neck(spatial)[0][:3]
        features = [tracker.mask_decoder.conv_s0(fine), tracker.mask_decoder.conv_s1(middle)]
        coarse = coarse + tracker.no_memory_embedding.view(1, -1, 1, 1)
        positions = tracker.get_image_wide_positional_embeddings()
    point = torch.tensor([[[[x, y]]]], dtype=torch.float32)
    label = torch.ones(1, 1, 1, dtype=torch.int)

    @torch.inference_mode()
    def forward() -> object:
        sparse, dense = tracker.prompt_encoder(point, label, None, None)
        return tracker.mask_decoder(
            image_embeddings=coarse,
            image_positional_embeddings=positions,
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=True,
            high_resolution_features=features,
        )

    return forward


def watched(model: Sam3) -> list[float]:
    """Return a list that the seconds of each decode of a model are added to from here on."""
    decode = model.refine_many
    found: list[float] = []

    def timed(embedding: Embedding, questions: Sequence[Question]) -> list[Candidates]:
        start = time.perf_counter()
        answer = decode(embedding, questions)
        found.append(time.perf_counter() - start)
        return answer

    vars(model)["refine_many"] = timed
    return found


def parameters(*models: torch.nn.Module) -> int:
    """Return the number of parameters of models that share none."""
    return sum(p.numel() for model in models for p in model.parameters())


def two_models(config: Sam3VideoConfig) -> int:
    """Return the parameters of a detector and a tracker side by side, without making them."""
    with torch.device("meta"):
        return parameters(Sam3Model(config.detector_config), Sam3TrackerModel(config))


def full_forward(video: Sam3VideoModel, image: NDArray[np.uint8]) -> torch.Tensor:
    """Run transformers' encoder and detector neck on an image."""
    side = video.config.image_size
    pixels = torch.nn.functional.interpolate(
        torch.from_numpy(image).permute(2, 0, 1)[None], (side, side), mode="bilinear", antialias=True
    )
    with torch.inference_mode():
        return video.detector_model.vision_encoder(pixels / 127.5 - 1).last_hidden_state


def main() -> None:
    """Measure, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--clicks", type=int, default=15, help="clicks to take the median of")
    clicks = parser.parse_args().clicks
    config = Sam3VideoConfig()
    torch.manual_seed(0)
    video = Sam3VideoModel(config)
    image = data.coffee()
    folder = Path(tempfile.mkdtemp())
    model = Sam3(video, tokenizer(), device="cpu", cache_dir=folder)
    one, two = parameters(video), two_models(config)
    print(f"parameters: {one / 1e6:.0f} M, of Sam3Model and Sam3TrackerModel side by side {two / 1e6:.0f} M")

    session = Session(image, model)
    encode = seconds(lambda: session.add_point(300, 200))
    print(f"first click on an image, encoding included: {encode:.1f} s")
    embedding = session._live.engine._embeddings[session._live.image.key]  # noqa: SLF001
    bare = bare_click(video, embedding.encoded[None], 300 * 1008 / 600, 200 * 1008 / 400)
    click = InstancePrompts(np.array([[300, 200]], np.float32), np.ones(1, np.bool_))
    times: dict[str, list[float]] = {"bare": [], "refine": [], "add_point": []}
    bare()
    for _ in range(clicks):
        times["bare"].append(seconds(bare))
        times["refine"].append(seconds(lambda: model.refine(embedding, click)))
    inside = watched(model)
    for _ in range(clicks):  # apart from the others: the threads of one would wait for work beside the other's
        times["add_point"].append(seconds(lambda: session.add_point(300, 200)))
    median = {name: statistics.median(found) for name, found in times.items()}
    refine = statistics.median(ours / bare for ours, bare in zip(times["refine"], times["bare"], strict=True))
    whole = statistics.median(total / part for total, part in zip(times["add_point"], inside, strict=True))
    print(f"a click, bare decoder: {median['bare'] * 1000:.0f} ms")
    print(f"a click, refine: {median['refine'] * 1000:.0f} ms, {refine:.2f} of the bare decoder")
    print(f"a click, add_point: {median['add_point'] * 1000:.0f} ms, {whole:.2f} of the model's part of it")
    print(f"a click, session over bare decoder: {refine * whole:.2f}")

    words = iter(WORDS)
    first = seconds(lambda: session.set_text(next(words)))
    text = statistics.median(seconds(lambda: session.set_text(next(words))) for _ in range(2))
    print(f"first phrase on the image: {first:.1f} s; another after the clicks: {text:.1f} s")
    detect = seconds(lambda: model.detect(embedding, ConceptPrompts(session.text)))
    moves = [seconds(lambda v=v: session.set_score_threshold(v)) for v in (0.2, 0.4, 0.6, 0.1, 0.3)]
    move = statistics.median(moves)
    print(f"a threshold move: {move * 1000:.1f} ms; by running the detector again: {detect:.1f} s")
    print(f"a correction of one object: {median['add_point'] * 1000:.0f} ms; by a box and the detector: {detect:.1f} s")

    vit = seconds(lambda: full_forward(video, image))
    print(f"a click as a full forward: {vit + median['bare']:.1f} s; a phrase as one: {vit + detect:.1f} s")

    again = Sam3(video, tokenizer(), device="cpu", cache_dir=folder)
    loaded = again.encode(image)
    reopened = seconds(lambda: again.encode(image))
    features = seconds(lambda: again.refine(loaded, click))
    size = next(folder.iterdir()).stat().st_size
    print(f"an image whose encoding a file holds ({size / 1e6:.1f} MB): {reopened:.2f} s, first click {features:.1f} s")


if __name__ == "__main__":
    main()
