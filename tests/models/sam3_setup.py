"""SAM 3 with random weights, ready to be asked and to be compared with."""

from __future__ import annotations

from functools import cache

import numpy as np
from skimage import data

from sam3_widget.models.sam.preprocess import Preprocess
from sam3_widget.models.sam3.model import Sam3
from tests.models.reference import reference_tracker
from tests.models.scenes import concept, prompts
from tests.models.tiny import SIDE, tiny_sam3, tiny_tokenizer

COFFEE, CHELSEA = data.coffee(), data.chelsea()[:, :200]
CLOSE = {"atol": 1e-4, "rtol": 1e-4}
"""float32 on different paths."""


def new(**settings):
    return Sam3(tiny_sam3(), tiny_tokenizer(), device="cpu", **settings)


@cache
def shared():
    return new()


@cache
def coffee():
    return shared().encode(COFFEE)


@cache
def original():
    """Return the model that the adapter was made of, untouched."""
    return tiny_sam3()


@cache
def clicking():
    """Return transformers' click model with the same weights."""
    return reference_tracker(original())


def pixels(image=COFFEE, side=SIDE):
    return Preprocess(side)([image])


PRIOR = (48, 48)
PRIORS = {"own size": PRIOR, "large": (400, 600), "small": (13, 7)}


def prior(shape=PRIOR):
    return np.random.default_rng(5).normal(0, 20, shape).astype(np.float32)


QUESTIONS = {
    "one click": (prompts((300, 200, True)), None),
    "a negative click": (prompts((300, 200, False)), None),
    "three clicks": (prompts((300, 200, True), (10, 390, False), (599, 0, True)), None),
    "box": (prompts(box=(100, 50, 480, 333)), None),
    "box and clicks": (prompts((300, 200, True), (120, 60, False), box=(100, 50, 480, 333)), None),
    "click and prior": (prompts((300, 200, True)), prior()),
    "box and prior": (prompts(box=(100, 50, 480, 333)), prior()),
    "all of it": (prompts((300, 200, True), (120, 60, False), box=(100, 50, 480, 333)), prior()),
    **{f"prior alone, {name}": (prompts(), prior(shape)) for name, shape in PRIORS.items()},
}


CONCEPTS = {
    "text": concept("cup"),
    "long text": concept("a cup of black coffee on wood"),
    "exemplar": concept("", (100, 50, 180, 233, True)),
    "exemplars": concept("", (100, 50, 180, 233, True), (10, 10, 30, 200, False), (0, 0, 200, 300, True)),
    "text and exemplars": concept("cup", (100, 50, 180, 233, True), (10, 10, 30, 200, False)),
    "text and a negative": concept("cup", (10, 10, 30, 200, False)),
}
