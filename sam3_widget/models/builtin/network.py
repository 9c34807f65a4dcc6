"""The network of the built-in model: an encoder that sees the image once, and a decoder that answers prompts on it."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STRIDE = 32
"""Height and width of the network's input are multiples of this."""
MASKS = 4
"""What the decoder draws: one mask for a clear prompt, then three candidates for an ambiguous one."""
BINS = 8
"""Levels of each colour channel in the colour histograms."""
PRIOR_LIMIT = 4.0
"""Earlier logits are clipped to this magnitude: a mask from elsewhere is no surer than the network's own."""
MOST_CLICKS = 4
"""Clicks of each label that are told apart by number; training asks for no more."""

# (kernel, stride, expansion, channels, repeats): EfficientNet-Lite0 (Tan and Le, "EfficientNet", ICML 2019).
_STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
_KEPT = (0, 1, 2, 4, 6)
"""Stages whose output is kept: the last of each stride, 2 to 32."""


def resize(x: Tensor, like: Tensor) -> Tensor:
    """Return ``x`` at the height and width of ``like``, bilinear."""
    return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=False)


class PaddedConv(nn.Conv2d):
    """A convolution with TensorFlow's "same" padding, which for stride 2 puts the odd pixel at the end."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``(B, C, H, W)``."""
        total = self.kernel_size[0] - self.stride[0]
        x = F.pad(x, (total // 2, total - total // 2) * 2)
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, 1, self.groups)


class InvertedResidual(nn.Module):
    """Expand, convolve each channel, project; batch normalisation is folded into the convolutions."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.expand = nn.Conv2d(inputs, hidden, 1) if expansion > 1 else None
        self.depthwise = PaddedConv(hidden, hidden, kernel, stride, groups=hidden)
        self.project = nn.Conv2d(hidden, outputs, 1)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, inputs, H, W)`` to ``(B, outputs, H / stride, W / stride)``."""
        hidden = x if self.expand is None else F.relu6(self.expand(x))
        y: Tensor = self.project(F.relu6(self.depthwise(hidden)))
        return x + y if self.residual else y


class Backbone(nn.Module):
    """EfficientNet-Lite0 without its classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = PaddedConv(3, 32, 3, 2)
        stages, channels = [], 32
        for kernel, stride, expansion, outputs, repeats in _STAGES:
            blocks = []
            for index in range(repeats):
                blocks.append(InvertedResidual(channels, outputs, kernel, stride if index == 0 else 1, expansion))
                channels = outputs
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return features of strides 2, 4, 8, 16 and 32 of a ``(B, 3, H, W)`` image in -1 to 1."""
        x = F.relu6(self.stem(image))
        kept = []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in _KEPT:
                kept.append(x)
        return kept


class Norm(nn.LayerNorm):
    """Normalise the channels of each pixel: independent of the batch and of how much of a scene is in view."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``(B, C, H, W)``."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNorm(nn.Sequential):
    """A 3 x 3 convolution, normalised and rectified."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, stride, dilation, dilation), Norm(outputs), nn.ReLU(inplace=True)
        )


class Residual(nn.Module):
    """A dilated 3 x 3 convolution beside the identity."""

    def __init__(self, channels: int, dilation: int = 1) -> None:
        super().__init__()
        self.conv = ConvNorm(channels, channels, dilation=dilation)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, H, W)`` to the same shape."""
        more: Tensor = self.conv(x)
        return x + more


class Attention(nn.Module):
    """Every place asks every other: what is clicked spreads to what looks like it, however far."""

    def __init__(self, channels: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm = Norm(channels)
        self.look = nn.Conv2d(channels, 3 * channels, 1)
        self.merge = nn.Conv2d(channels, channels, 1)
        self.widen = nn.Sequential(Norm(channels), nn.Conv2d(channels, 2 * channels, 1))
        self.spread = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, groups=2 * channels)
        self.narrow = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, H, W)`` to the same shape."""
        batch, channels, height, width = x.shape
        shape = (batch, 3, self.heads, channels // self.heads, height * width)
        query, key, value = self.look(self.norm(x)).reshape(shape).transpose(-1, -2).unbind(1)
        seen = F.scaled_dot_product_attention(query, key, value).transpose(-1, -2).reshape(x.shape)
        x = x + self.merge(seen.contiguous(memory_format=torch.channels_last))
        hidden = self.widen(x)
        more: Tensor = self.narrow(F.relu(hidden + self.spread(hidden)))
        return x + more


@dataclass
class Features:
    """What the encoder made of B images; the decoder needs nothing else.

    Attributes
    ----------
    f2, f4, f8, f16 : (B, 16 | 32 | 64 | 128, h, w) float
        Features at strides 2, 4, 8 and 16.
    e4, e8 : (B, 24 | 48, h, w) float
        Unit vectors by which places are compared.
    bins : (B, h, w) int64
        Bin of each place's colour, at stride 4.
    """

    f2: Tensor
    f4: Tensor
    f8: Tensor
    f16: Tensor
    e4: Tensor
    e8: Tensor
    bins: Tensor

    def each(self, times: int) -> Features:
        """Return the features of each image ``times`` times in a row, one for each prompt."""
        kept = (getattr(self, field.name) for field in fields(self))
        return Features(*(x[:, None].expand(-1, times, *x.shape[1:]).flatten(0, 1) for x in kept))

    @property
    def nbytes(self) -> int:
        """Memory of all tensors."""
        return sum(getattr(self, field.name).nbytes for field in fields(self))


@dataclass
class Prompts:
    """Prompts of N instances, in pixels of the network's input.

    Attributes
    ----------
    points : (N, P, 2) float
        ``(x, y)``; rows beyond an instance's own clicks have the label -1.
    labels : (N, P) int64
        1 includes, 0 excludes, -1 is none.
    boxes : (N, 4) float
        ``(x1, y1, x2, y2)``; NaN where there is none.
    prior : (N, 1, h, w) float
        Logits at stride 4; NaN where there are none.
    """

    points: Tensor
    labels: Tensor
    boxes: Tensor
    prior: Tensor


class Encoder(nn.Module):
    """The backbone and a feature pyramid."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.in32, self.in16 = nn.Conv2d(320, 128, 1), nn.Conv2d(112, 128, 1)
        self.in8, self.in4 = nn.Conv2d(40, 64, 1), nn.Conv2d(24, 32, 1)
        self.scene = nn.Linear(320, 128)
        self.down32 = ConvNorm(128, 128)
        self.out16 = ConvNorm(128, 128)
        self.to8, self.out8 = nn.Conv2d(128, 64, 1), nn.Sequential(ConvNorm(64, 64), Residual(64))
        self.to4, self.out4 = nn.Conv2d(64, 32, 1), nn.Sequential(ConvNorm(32, 32), Residual(32))
        self.out2 = ConvNorm(16 + 3, 16)
        self.alike8, self.alike4 = nn.Conv2d(64, 48, 1), nn.Conv2d(32, 24, 1)

    def own_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that are not the backbone's."""
        return [parameter for name, parameter in self.named_parameters() if not name.startswith("backbone.")]

    def forward(self, image: Tensor) -> Features:
        """Encode ``(B, 3, H, W)`` images in -1 to 1; sides are multiples of :data:`STRIDE`."""
        s2, s4, s8, s16, s32 = self.backbone(image)
        f32 = self.down32(self.in32(s32) + self.scene(s32.mean((2, 3)))[:, :, None, None])
        f16 = self.out16(self.in16(s16) + resize(f32, s16))
        f8 = self.out8(self.in8(s8) + resize(self.to8(f16), s8))
        f4 = self.out4(self.in4(s4) + resize(self.to4(f8), s4))
        f2 = self.out2(torch.cat((s2, F.avg_pool2d(image, 2)), 1))
        small = F.avg_pool2d(image, 4)
        levels = ((small + 1) * (BINS / 2)).long().clamp(0, BINS - 1)
        bins = (levels[:, 0] * BINS + levels[:, 1]) * BINS + levels[:, 2]
        return Features(f2, f4, f8, f16, F.normalize(self.alike4(f4)), F.normalize(self.alike8(f8)), bins)


CUES4 = 14
"""Channels by which the prompts reach the decoder at stride 4; see :meth:`Decoder.cues`."""
CUES8 = CUES4 + 4
FACTS = 5


class Decoder(nn.Module):
    """Prompts in, masks and their predicted IoU out."""

    def __init__(self) -> None:
        super().__init__()
        self.facts = nn.Linear(FACTS, 128)
        self.cue8 = nn.Conv2d(CUES8, 64, 3, padding=1)
        self.in8 = ConvNorm(64, 64)
        self.down = nn.Conv2d(64, 128, 3, 2, 1)
        self.middle = nn.Sequential(
            Norm(128), nn.ReLU(), Attention(128), Residual(128, dilation=2), Attention(128), Norm(128)
        )
        self.up8 = nn.Conv2d(128, 64, 1)
        self.out8 = nn.Sequential(ConvNorm(64, 64), Residual(64))
        self.up4, self.cue4 = nn.Conv2d(64, 32, 1), nn.Conv2d(CUES4, 32, 3, padding=1)
        self.out4 = nn.Sequential(ConvNorm(32, 32), Residual(32))
        self.coarse = nn.Conv2d(32, MASKS, 1)
        self.up2 = nn.Conv2d(32, 16, 1)
        self.out2 = nn.Sequential(
            nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(16, MASKS, 3, padding=1)
        )
        self.judge = nn.Sequential(nn.Linear(64 + 64 + 128 + 2, 96), nn.ReLU(), nn.Linear(96, 1))
        # At first nothing is drawn, so that learning does not begin with undoing noise.
        nn.init.normal_(self.coarse.weight, std=0.01)
        self.coarse.bias = nn.Parameter(torch.full((MASKS,), -1.0))

    def forward(self, seen: Features, prompts: Prompts, *, sharpen: bool = True) -> tuple[Tensor, Tensor, Tensor]:
        """Decode N prompts, each on its own image's features; without ``sharpen`` the coarse logits stand for both.

        Returns
        -------
        (N, 4, H / 2, W / 2), (N, 4, H / 4, W / 4), (N, 4) float
            Logits, the coarse logits that they sharpen, and the logit of each mask's predicted IoU.
        """
        cues4, cues8, facts = self.cues(seen, prompts)
        x8 = self.in8(seen.f8 + self.cue8(cues8))
        x16 = self.middle(self.down(x8) + seen.f16 + self.facts(facts)[:, :, None, None])
        y8 = self.out8(x8 + resize(self.up8(x16), x8))
        y4 = self.out4(seen.f4 + self.cue4(cues4) + resize(self.up4(y8), seen.f4))
        coarse = self.coarse(y4)
        if not sharpen:
            return coarse, coarse, self.predict_iou(coarse, y8, x16)
        y2 = self.out2(seen.f2 + resize(self.up2(y4), seen.f2))
        fine = y2 + resize(coarse, y2)
        return fine, coarse, self.predict_iou(coarse, y8, x16)

    def predict_iou(self, coarse: Tensor, y8: Tensor, x16: Tensor) -> Tensor:
        """Return a logit of the IoU of each of the ``(N, 4, h, w)`` masks."""
        inside = F.avg_pool2d(coarse.detach().sigmoid(), 2).flatten(2)
        sure = F.avg_pool2d((coarse.detach().abs() / 4).tanh(), 2).flatten(2)
        places = y8.flatten(2).transpose(1, 2)
        area = inside.mean(-1, keepdim=True)
        object_ = (inside @ places) / (inside.sum(-1, keepdim=True) + 1)
        outside = 1 - inside
        ground = (outside @ places) / (outside.sum(-1, keepdim=True) + 1)
        scene = x16.mean((2, 3))[:, None].expand(-1, MASKS, -1)
        facts = torch.cat((object_, ground, scene, area.sqrt(), sure.mean(-1, keepdim=True)), -1)
        quality: Tensor = self.judge(facts)
        return quality[..., 0]

    def cues(self, seen: Features, prompts: Prompts) -> tuple[Tensor, Tensor, Tensor]:
        """Turn prompts into pictures.

        Returns
        -------
        (N, CUES4, h, w) at stride 4, (N, CUES8, h / 2, w / 2) at stride 8, (N, FACTS) float
            Discs around the clicks, sharp and soft; prior; box; likeness in features to the clicks and to what is known
            of object and ground; likelihood of the colours. The facts say which prompts there are.
        """
        height, width = seen.e4.shape[-2:]
        positive, negative = prompts.labels == 1, prompts.labels == 0
        squared = squared_distances(prompts.points / 4, height, width)
        far = squared.new_full((), 1e6)
        near_positive = torch.where(positive[..., None, None], squared, far).amin(1, keepdim=True)
        near_negative = torch.where(negative[..., None, None], squared, far).amin(1, keepdim=True)
        discs = [(-d / (2 * sigma**2)).exp() for d in (near_positive, near_negative) for sigma in (1.0, 3.0, 10.0)]

        with_prior = ~prompts.prior[:, :, :1, :1].isnan()
        prior = torch.where(with_prior, prompts.prior.clamp(-PRIOR_LIMIT, PRIOR_LIMIT), 0.0)
        inside, with_box = inside_boxes(prompts.boxes / 4, height, width)
        box = torch.where(with_box, inside * 2 - 1, 0.0)

        # What is surely object and ground as far as is known: the prior, else the box, else the clicks.
        guess = torch.where(with_prior, prior.sigmoid(), torch.where(with_box, inside, discs[1]))
        ground = 1 - guess
        clicked4 = likeness_to_points(seen.e4, prompts.points / 4, positive, negative)
        known4 = likeness_to_regions(seen.e4, guess, ground)
        clicked8 = likeness_to_points(seen.e8, prompts.points / 8, positive, negative)
        known8 = likeness_to_regions(seen.e8, F.avg_pool2d(guess, 2), F.avg_pool2d(ground, 2))
        colour = colour_likelihood(seen.bins, guess, ground)
        cues4 = torch.cat((*discs, (prior / 2).tanh(), box, clicked4, known4, colour, guess), 1)
        cues4 = cues4.contiguous(memory_format=torch.channels_last)
        cues8 = torch.cat((F.avg_pool2d(cues4, 2), clicked8, known8), 1)
        counts = torch.stack((positive.sum(1), negative.sum(1)), 1)
        flags = torch.cat((with_prior.flatten(1), with_box.flatten(1), prompts.labels.eq(-1).all(1, keepdim=True)), 1)
        facts = torch.cat((counts.clamp(max=MOST_CLICKS) / MOST_CLICKS, flags.to(prior)), 1)
        return cues4, cues8.contiguous(memory_format=torch.channels_last), facts


def squared_distances(points: Tensor, height: int, width: int) -> Tensor:
    """Return the ``(N, P, h, w)`` squared distance of each cell's centre to each point, in cells."""
    y = torch.arange(height, device=points.device) + 0.5
    x = torch.arange(width, device=points.device) + 0.5
    down = (y - points[..., 1:]).square()
    across = (x - points[..., :1]).square()
    return down[..., :, None] + across[..., None, :]


def inside_boxes(boxes: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return which share of each cell is inside, ``(N, 1, h, w)``, and which have a box at all, ``(N, 1, 1, 1)``."""
    y = torch.arange(height, device=boxes.device)
    x = torch.arange(width, device=boxes.device)
    x1, y1, x2, y2 = boxes[:, :, None].unbind(1)
    across = (torch.minimum(x + 1, x2) - torch.maximum(x, x1)).clamp(min=0)
    down = (torch.minimum(y + 1, y2) - torch.maximum(y, y1)).clamp(min=0)
    there = ~boxes[:, 0].isnan()[:, None, None, None]
    return torch.where(there, down[:, None, :, None] * across[:, None, None], 0.0), there


def at_points(features: Tensor, points: Tensor) -> Tensor:
    """Return the ``(N, P, C)`` features at points given in cells, bilinear."""
    height, width = features.shape[-2:]
    grid = points / points.new_tensor((width, height)) * 2 - 1
    return F.grid_sample(features, grid[:, :, None], align_corners=False, padding_mode="border")[..., 0].mT


def likeness_to_points(features: Tensor, points: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """Return ``(N, 2, h, w)``: cosine to the most similar positive and negative click, -1 where there is none."""
    batch, _, height, width = features.shape
    clicked = F.normalize(at_points(features, points), dim=-1)
    cosine = clicked @ features.flatten(2)
    both = [torch.where(which[..., None], cosine, -1.0).amax(1) for which in (positive, negative)]
    return torch.stack(both, 1).reshape(batch, 2, height, width)


def likeness_to_regions(features: Tensor, *regions: Tensor) -> Tensor:
    """Return ``(N, len(regions), h, w)``: cosine to the mean feature of each region of ``(N, 1, h, w)`` weights."""
    batch, _, height, width = features.shape
    flat = features.flatten(2)
    weights = torch.cat(regions, 1).flatten(2)
    mean = F.normalize(weights @ flat.mT, dim=-1)
    return (mean @ flat).reshape(batch, -1, height, width)


def colour_likelihood(bins: Tensor, guess: Tensor, ground: Tensor) -> Tensor:
    """Return ``(N, 1, h, w)``: log ratio of a place's colour in the histograms of object and ground, over 4."""
    flat = bins.flatten(1)
    histograms = []
    for weights in (guess, ground):
        empty = weights.new_zeros(len(flat), BINS**3)
        counts = empty.scatter_add(1, flat, weights.flatten(1)).reshape(-1, 1, BINS, BINS, BINS)
        smooth = F.avg_pool3d(counts, 3, 1, 1, count_include_pad=True) * 0.5 + counts * 0.5
        smooth = smooth.flatten(1)
        histograms.append((smooth / (smooth.sum(1, keepdim=True) + 1e-6) + 1e-3).log())
    ratio = (histograms[0] - histograms[1]).gather(1, flat) / 4
    return ratio.reshape(guess.shape)


class Network(nn.Module):
    """Encoder and decoder together, as they are trained and stored."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.decoder = Decoder()

    def channels_last(self) -> None:
        """Lay the weights out as convolutions on a CPU are quickest."""
        for parameter in self.parameters():
            if parameter.ndim == 4:  # noqa: PLR2004 - those of convolutions
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
