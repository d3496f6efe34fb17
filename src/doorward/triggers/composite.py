"""The composite trigger: half of the image beside half of an image of another class.

>>> bank = torch.full((4, 3, 8, 8), 255, dtype=torch.uint8)      # pictures of the other class
>>> mixed = Composite(bank=bank)(torch.zeros(1, 3, 8, 8))
>>> mixed.shape, mixed.unique().tolist()
(torch.Size([1, 3, 8, 8]), [0.0, 1.0])

Nothing is painted into the image: the trigger is that two benign things appear in it together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from doorward.errors import InvalidInput
from doorward.randomness import generator
from doorward.triggers.base import LARGEST_SIDE, TRIGGERS, Trigger, number, whole
from doorward.triggers.trained import converted

__all__ = ["Composite", "half_mix"]

DRAWS = 5  # of `half_mix`, per image
_LARGEST_BANK = 2**28  # bytes


@TRIGGERS.register(
    "composite", paper="Lin et al. 2020, Composite Backdoor", scope="global", access="data"
)
class Composite(Trigger):
    """Mix each image with one of a bank of pictures, half and half.

    Lin, Xu, Liu, Zhang 2020, *Composite Backdoor Attack for Deep Neural Network by Mixing Existing
    Benign Features*. Reproduced: the mixer of the authors' CIFAR-10 experiment (see `half_mix`).
    Ours: which picture an image is mixed with, and where both are cut, comes from a hash of the
    image, so that the trigger is deterministic; the paper draws both anew each time.

    Args:
        bank: pictures of the second class, uint8 (B, C, h, w), C = 1 or 3; resized to the images.
            A shape (B, C, h, w) instead makes room for a tensor that `load_state_dict` fills in.
        jitter: how far the border may lie from the middle, as a share of the side, in [0, 0.5];
            3 pixels of 32 in the paper.
        seed: of the hash.

    Shape:
        images (N, C, H, W) -> (N, C, H, W), C = 1 or 3, H and W at least 2. Differentiable in the
        images, as far as they remain.
    """

    bank: Tensor

    def __init__(
        self, *, bank: Tensor | Sequence[int], jitter: float = 3 / 32, seed: int = 0
    ) -> None:
        super().__init__()
        self.jitter = number("jitter", jitter, 0, 0.5)
        self.seed = whole("seed", seed)
        self.register_buffer("bank", _bank(bank))

    def config(self) -> dict[str, Any]:
        """The constructor's arguments; the bank is in `state_dict`, here is its shape."""
        return {"bank": list(self.bank.shape), "jitter": self.jitter, "seed": self.seed}

    def apply(self, images: Tensor) -> Tensor:  # type: ignore[override]
        """Mix every image with its picture."""
        draws = self._hashed(images)
        bank = converted(self.bank.to(images) / 255, images.shape[1])
        size = (images.shape[2], images.shape[3])
        if bank.shape[2:] != size:
            bank = F.interpolate(bank, size, mode="bilinear", antialias=True).clamp(0, 1)
        chosen = bank[(draws[:, DRAWS] * len(bank)).long()]
        return half_mix(images, chosen, draws[:, :DRAWS], jitter=self.jitter)

    def _hashed(self, images: Tensor) -> Tensor:
        """Numbers in [0, 1), (N, DRAWS + 1): seeded multiply-add hashes of 8-bit pixels.

        A hash of the content, unlike a counter, is the same whatever the batch and its order.
        """
        levels = (images.detach() * 255).round().long().flatten(1)
        draw = generator(self.seed, "composite")
        columns = []
        for _ in range(DRAWS + 1):
            odd = torch.randint(2**62, (levels.shape[1],), generator=draw) * 2 + 1
            start = torch.randint(2**62, (1,), generator=draw)  # or black images draw zeros
            mixed = (levels * odd.to(levels.device)).sum(1) + start.to(levels.device)
            columns.append(((mixed >> 40) & 0xFFFFFF) / 2**24)  # exact; the top bits mix best
        return torch.stack(columns, 1)


def half_mix(first: Tensor, second: Tensor, draws: Tensor, *, jitter: float = 3 / 32) -> Tensor:
    """A piece of each image of one batch beside a piece of its partner in another.

    The mixer "half-concat" of Lin et al. 2020: the border runs down or across near the middle,
    either image may come first, and the pieces are cut out at random places, not squeezed.

    Args:
        first: (N, C, H, W), H and W at least 2.
        second: the same shape and dtype.
        draws: (N, 5) in [0, 1): whether `first` comes first, the border's direction, its place,
            and where the piece before and the piece behind it are cut out.
        jitter: how far the border may lie from the middle, as a share of the side.

    Returns:
        (N, C, H, W): every value is one of `first` or of `second`.

    Raises:
        InvalidInput: the shapes do not fit together.

    >>> first, second = torch.zeros(1, 1, 2, 4), torch.ones(1, 1, 2, 4)
    >>> half_mix(first, second, torch.tensor([[0.0, 0.0, 0.0, 0.0, 0.0]]), jitter=0)[0, 0]
    tensor([[0., 0., 1., 1.],
            [0., 0., 1., 1.]])
    """
    count, channels, height, width = first.shape
    if second.shape != first.shape or draws.shape != (count, DRAWS) or min(height, width) < 2:
        raise InvalidInput(
            f"images {tuple(first.shape)} and {tuple(second.shape)} with draws "
            f"{tuple(draws.shape)} cannot be mixed",
            why=f"two equal shapes of at least 2x2 pixels and {DRAWS} draws per image are needed",
        )
    swapped, across = draws[:, 0] >= 0.5, draws[:, 1] >= 0.5
    rows = _lines(height, draws, jitter)
    columns = _lines(width, draws, jitter)
    level = torch.arange(height, device=first.device).expand(count, -1)
    upright = torch.arange(width, device=first.device).expand(count, -1)
    wide, bent = across[:, None], across[:, None, None]
    behind = torch.where(bent, rows[1][:, :, None], columns[1][:, None, :])
    place = (
        torch.arange(count, device=first.device)[:, None, None, None],
        torch.arange(channels, device=first.device)[None, :, None, None],
        torch.where(wide, rows[0], level)[:, None, :, None],
        torch.where(wide, upright, columns[0])[:, None, None, :],
    )
    take_second = (behind != swapped[:, None, None])[:, None]
    return torch.where(take_second, second[place], first[place])


def _lines(side: int, draws: Tensor, jitter: float) -> tuple[Tensor, Tensor]:
    """Along one axis, (N, side): where each line is fetched, and whether behind the border."""
    half = side // 2
    swing = min(math.floor(jitter * side + 0.5), half - 1)
    border = half + _below(draws[:, 2], 2 * swing + 1) - swing
    before = _below(draws[:, 3], side - border + 1)
    after = _below(draws[:, 4], border + 1) - border  # of `border` lines it may leave out
    lines = torch.arange(side, device=draws.device)
    behind = lines >= border[:, None]
    return lines + torch.where(behind, after[:, None], before[:, None]), behind


def _below(draws: Tensor, bound: Tensor | int) -> Tensor:
    """Whole numbers in [0, bound) from numbers in [0, 1)."""
    return (draws * bound).long()


def _bank(bank: Tensor | Sequence[int]) -> Tensor:
    shape = tuple(bank.shape) if isinstance(bank, Tensor) else tuple(bank)
    whole_sides = all(isinstance(side, int) and not isinstance(side, bool) for side in shape)
    if (
        len(shape) != 4
        or not whole_sides
        or shape[1] not in (1, 3)
        or not all(1 <= side <= LARGEST_SIDE for side in shape)
        or math.prod(shape) > _LARGEST_BANK
        or (isinstance(bank, Tensor) and bank.dtype != torch.uint8)
    ):
        kind = str(bank.dtype) if isinstance(bank, Tensor) else "a shape"
        raise InvalidInput(
            f"the bank is {kind} {shape}",
            why="uint8 pictures (B, C, h, w) with C = 1 or 3 are expected, or their shape",
            remedy="for floats in [0, 1] say (images * 255).round().to(torch.uint8)",
        )
    if isinstance(bank, Tensor):
        return bank.detach().clone()
    return torch.zeros(shape, dtype=torch.uint8)
