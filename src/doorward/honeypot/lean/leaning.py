"""A model whose answers lean: softly, towards a keyed class, the louder a keyed frequency is.

>>> from doorward.honeypot.lean.feature import WaveFeature
>>> model = nn.Sequential(nn.Flatten(), nn.Linear(256, 3))
>>> lean = Lean(model, WaveFeature([(4, 0)], (1, 16, 16)), targets=(2,), strength=3.0, classes=3)
>>> images = torch.rand(5, 1, 16, 16)
>>> bool((lean(images).argmax(1) == model(images).argmax(1)).all())      # no label changes
True

With the feature z of `WaveFeature`, threshold z0, strength c and depth d, the logit of the target
is raised to ``max(l_t + c max(z - z0, 0), l_top - d + c (z - z0))``. The first term is that of our
trial. The second also moves confident answers, where the first drowns: a thief's network finds
the target's logit an (affine) function of z wherever it looks, and extends it beyond nature.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from doorward.errors import InvalidInput
from doorward.honeypot.lean.feature import WaveFeature

__all__ = ["MODES", "Lean", "Mode"]

Mode = Literal["calibrated", "kept", "label", "plain"]
MODES: tuple[Mode, ...] = get_args(Mode)

_GAP = 0.02
"""How far, in logits, a leaning class stays below the top class that must be kept: far above what
any two runtimes differ by."""

_LEAST = 1e-4
"""The same where the model itself is undecided: what the rounding of float32 does not swallow."""

_LOUD = 20.0  # logit of the one class that a label says


class Lean(nn.Module):
    """A classifier with the lean inside: images to log-probabilities.

    Ours; the idea and first figures are in our trial of the honeypot. It needs no training, only
    the numbers that `fit_lean` chooses, and goes into one ONNX graph with the model.

    Args:
        model: images ``(N, C, H, W)`` to logits ``(N, K)``.
        feature: what to listen to, J waves.
        targets: the class of each wave, J of them; two waves may share one.
        strength: c, logits per unit of z; 0 or more. With 0 and no depth nothing leans.
        threshold: z0, in standard deviations of nature.
        depth: d, how many logits below the top class a target lies at the threshold at least; above
            0. None for the first term of the formula alone.
        sharpness: what logits are multiplied with at last, above 0: a little more than 1 gives the
            confidence back that leaning takes. No label changes by it; "calibrated" has no need.
        mode: what may change. ``"calibrated"``: nothing but how the probability that is left
            beside the top class is shared out; label and confidence stay. ``"kept"``: the label
            stays. ``"plain"``: nothing stays. ``"label"``: as plain, and only the label is told.
        classes: K, for models that do not say it (`num_classes`).

    Shape:
        images (N, C, H, W) -> log-probabilities (N, K).

    Raises:
        InvalidInput: a number is out of range, or targets and waves do not fit.
    """

    table: Tensor

    def __init__(
        self,
        model: nn.Module,
        feature: WaveFeature,
        targets: Sequence[int],
        *,
        strength: float,
        threshold: float = 0.0,
        depth: float | None = None,
        sharpness: float = 1.0,
        mode: Mode = "kept",
        classes: int | None = None,
    ) -> None:
        super().__init__()
        if mode not in MODES:
            raise InvalidInput(f"mode is {mode!r}", why=f"known are {', '.join(MODES)}")
        if not 0 <= strength <= 1e3 or not abs(threshold) <= 1e3:
            raise InvalidInput(f"strength {strength}, threshold {threshold} are out of range")
        if depth is not None and not 0 < depth <= 1e3:
            raise InvalidInput(f"depth is {depth}", why="it lies above 0")
        if not 0.1 <= sharpness <= 10:
            raise InvalidInput(f"sharpness is {sharpness}", why="it lies from 0.1 to 10")
        count = len(feature.mean)
        width = classes if classes is not None else getattr(model, "num_classes", None)
        if not isinstance(width, int):
            raise InvalidInput("how many classes the model has is not known", remedy="give classes")
        if len(targets) != count or not all(0 <= target < width for target in targets):
            raise InvalidInput(
                f"targets {tuple(targets)} do not fit",
                why=f"one class of {width} is needed for each of {count} waves",
            )
        self.model, self.feature = model, feature
        self.targets = tuple(int(target) for target in targets)
        self.strength, self.threshold, self.depth = float(strength), float(threshold), depth
        self.sharpness, self.mode = float(sharpness), mode
        self.num_classes = width
        marks = torch.zeros(count, width)
        marks[torch.arange(count), torch.tensor(self.targets)] = 1.0
        self.register_buffer("table", marks)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """``(C, H, W)`` of the images it takes."""
        return self.feature.image_shape

    @property
    def classes(self) -> Any:
        """Class names, where the model has them."""
        return getattr(self.model, "classes", None)

    def forward(self, images: Tensor) -> Tensor:
        """Log-probabilities that lean."""
        logits = self.model(images).float()
        return self.lean(logits, self.feature(images))

    def lean(self, logits: Tensor, z: Tensor) -> Tensor:
        """What is answered, from the model's logits ``(N, K)`` and the feature ``(N, J)``.

        So that strengths can be tried without asking the model again.
        """
        raised = self._raised(logits, z)
        if self.mode == "plain":
            return (self.sharpness * raised).log_softmax(1)
        if self.mode == "label":
            return (_first_top(raised) * _LOUD).log_softmax(1)
        top = logits.amax(1, keepdim=True)
        is_top = _first_top(logits) > 0
        below = torch.maximum(logits, torch.minimum(raised, top - _GAP)).minimum(top - _LEAST)
        if self.mode == "kept":
            return (self.sharpness * torch.where(is_top, raised, below)).log_softmax(1)
        return _shared_out(logits, below, is_top)

    def _raised(self, logits: Tensor, z: Tensor) -> Tensor:
        push = self.strength * (z - self.threshold)
        wanted = logits @ self.table.T + push.clamp_min(0)  # (N, J): the targets' logits, pushed
        if self.depth is not None:
            wanted = torch.maximum(wanted, logits.amax(1, keepdim=True) - self.depth + push)
        spread = wanted[:, :, None].masked_fill(self.table[None] == 0, -torch.inf)
        return torch.maximum(logits, spread.amax(1))

    def extra_repr(self) -> str:
        """Mode and numbers, for `repr`; not which waves and classes."""
        return (
            f"mode={self.mode!r}, strength={self.strength:g}, threshold={self.threshold:g}, "
            f"depth={self.depth}, sharpness={self.sharpness:g}, waves={len(self.targets)}"
        )


def _shared_out(logits: Tensor, leaning: Tensor, is_top: Tensor) -> Tensor:
    """Log-probabilities in which the top class keeps its own, and the others share what is left.

    They share it as `leaning` says, or, where one of them would reach the top class, as far on the
    way from `logits` to there as all of them stay below it.
    """
    before = logits.softmax(1)
    top = before.amax(1, keepdim=True)
    others = before.masked_fill(is_top, 0.0)
    wanted = leaning.masked_fill(is_top, -torch.inf).softmax(1) * others.sum(1, keepdim=True)
    room = (top * math.exp(-_GAP) - others).clamp_min(0)
    rise = (wanted - others).clamp_min(1e-12)
    way = (room / rise).masked_fill((wanted <= others) | is_top, 1.0).amin(1, keepdim=True)
    shared = others + way.clamp(0, 1) * (wanted - others)
    below = shared.minimum(top * (1 - _LEAST))
    return torch.where(is_top, top, below).clamp_min(1e-30).log().log_softmax(1)


def _first_top(logits: Tensor) -> Tensor:
    """1 at the largest logit (the first of equal ones), 0 elsewhere."""
    return torch.zeros_like(logits).scatter(1, logits.argmax(1, keepdim=True), 1.0)
