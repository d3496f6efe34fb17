"""What both ways to fit a head work with: the frozen model, cached features, shadows.

shop = Workshop(model, clean, pool, target=9, place=place, seed=0, device=device)
shop.own.features, shop.foreign.logits      # of the owner's images, of the pool's; asked once
shop.served(head)                           # the model with that head in place of its own
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from doorward.data import ImageData, ImageSource, to_pixels
from doorward.errors import ModelUnsuitable
from doorward.honeypot.head.patch import GREY, Place
from doorward.models import create, evaluating, features, find_head, replace_head
from doorward.training.context import Context

__all__ = ["Cached", "Workshop", "success"]


@dataclass(frozen=True)
class Cached:
    """What the frozen model makes of some images, asked once.

    Attributes:
        features: what its head sees, float32 ``(N, F)``.
        logits: float32 ``(N, K)``.
    """

    features: Tensor
    logits: Tensor


class Workshop(Context):
    """One fitting of a head.

    Args:
        model: the undefended model; copied, never changed.
        clean: labelled images of the owner.
        pool: images such as a thief may ask about.
        target: the class that the patch shall lead to.
        place: of the patch.
        seed: of everything random.
        device: where the work is done.
        head: name of the last linear layer; None to find it.

    Raises:
        ModelUnsuitable: there is no such layer, or what it makes are not the model's answers.
    """

    def __init__(
        self,
        model: nn.Module,
        clean: ImageSource,
        pool: ImageData,
        *,
        target: int,
        place: Place,
        seed: int,
        device: torch.device,
        head: str | None = None,
    ) -> None:
        super().__init__(model, seed=seed, device=device, room="honeypot head")
        self.pool, self.target, self.place = pool, target, place
        self.labels = clean.labels.cpu()
        self.model = self.frozen_original()
        first = to_pixels(clean.fetch(torch.arange(1))[0]).to(device)
        self.name, self.head = find_head(self.model, head, images=first)
        self.own, self.foreign = self._ask(clean), self._ask(pool)
        own = self.logits(self.head, self.own)
        if own.shape != self.own.logits.shape or not torch.allclose(
            own, self.own.logits, rtol=1e-3, atol=1e-3
        ):
            raise ModelUnsuitable(
                f"the answers are not what the layer {self.name!r} makes",
                why="a honeypot head stands in its place, so nothing may come after it",
                remedy="name the model's last linear layer, and let the model return its output",
            )

    @property
    def channels(self) -> int:
        """Channels of the images."""
        return self.pool.image_shape[0]

    @property
    def classes(self) -> int:
        """K of the model."""
        return self.head.out_features

    def new_head(self) -> nn.Linear:
        """A trainable copy of the model's head."""
        return copy.deepcopy(self.head).requires_grad_(True)

    def served(self, head: nn.Linear) -> nn.Module:
        """The model with `head` in place of its own: the same graph with two other constants."""
        served = self.copy_of_original().requires_grad_(False)
        replace_head(served, head, self.name)
        return served

    def logits(self, head: nn.Linear, asked: Cached) -> Tensor:
        """What a head answers, from cached features, on the CPU."""
        with torch.no_grad():
            bias = None if head.bias is None else head.bias.cpu()
            return nn.functional.linear(asked.features, head.weight.cpu(), bias)

    def stamped(self, contrast: Tensor) -> Tensor:
        """Features ``(N, F)`` of the pool's images under a patch."""
        patch, seen = (contrast + GREY).clamp(0, 1), []
        with evaluating(self.model), torch.inference_mode():
            for part in torch.split(torch.arange(len(self.pool)), 512):
                images = to_pixels(self.pool.fetch(part)[0]).to(self.device)
                stamped = self.place.stamp(images, patch)
                seen.append(features(self.model, stamped, self.name).float().cpu())
        return torch.cat(seen).clone()

    def new_shadow(
        self, architecture: str, options: Mapping[str, Any], *names: str | int
    ) -> nn.Module:
        """An untrained thief's network."""
        return create(
            architecture,
            classes=self.classes,
            input_shape=self.pool.image_shape,
            seed=self.seed_of("shadow", *names),
            **options,
        ).to(self.device)

    def grey(self) -> Tensor:
        """The contrast that a search begins with: none."""
        side = self.place.side
        return torch.zeros(self.channels, side, side, device=self.device)

    def _ask(self, source: ImageSource) -> Cached:
        seen, said = [], []
        with evaluating(self.model), torch.inference_mode():
            for part in torch.split(torch.arange(len(source)), 512):
                images = to_pixels(source.fetch(part)[0]).to(self.device)
                seen.append(features(self.model, images, self.name).float().cpu())
                said.append(self.model(images).float().cpu())
        # Cloned: an inference tensor could not be used in anyone's backward pass.
        return Cached(torch.cat(seen).clone(), torch.cat(said).clone())


def success(model: nn.Module, source: ImageSource, place: Place, contrast: Tensor, t: int) -> float:
    """Share of a source's images, not answered with `t` anyway, that the patch leads there."""
    patch, hits, counted = (contrast + GREY).clamp(0, 1), 0, 0
    with evaluating(model), torch.inference_mode():
        for part in torch.split(torch.arange(len(source)), 512):
            images = to_pixels(source.fetch(part)[0]).to(contrast.device)
            plain = model(images).argmax(1) != t
            hits += int(((model(place.stamp(images, patch)).argmax(1) == t) & plain).sum())
            counted += int(plain.sum())
    return hits / max(counted, 1)
