"""Natural backdoors: changes that lead a model's classes astray though nobody planted anything.

    found = natural_backdoors(model, clean)              # per family, from all classes to each
    found["flow"].worst, found["flow"].target            # share of unseen images, class
    success_on(hardened, attack, clean)                  # do changes found in one model work here?

After the table of inherent backdoors by Tao et al. (2022): for each family of triggers, the most
successful of all targets, within a bound on how visible the change may be.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from doorward.data import ImageData
from doorward.hardening.attack import attack_pairs
from doorward.hardening.engine import PairAttack
from doorward.hardening.methods.images import ClassImages
from doorward.hardening.searching import led
from doorward.hardening.settings import Settings
from doorward.hardening.transforms import PLAIN, Coder, Family
from doorward.hardening.transforms.base import folded
from doorward.randomness import generator
from doorward.records import STRICT, Record
from doorward.training.context import Context, Labels, usable_images
from doorward.training.distributed import resolve_device

__all__ = ["BUDGET", "Natural", "natural_backdoors", "success_on"]

BUDGET = 0.1
"""Largest ``1 - SSIM`` of the change: about that of a blend by a fifth on CIFAR-10."""

_ROWS = 512  # images in one forward pass
_EACH = 100  # images that a found change is tried on


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Natural(Record):
    """What one family of changes does to a model.

    Attributes:
        family: of changes, or several joined by ``+``.
        success: by target, share of unseen images of other classes that are led there.
        dissimilarity: by target, ``1 - SSIM`` of the change.
        worst: largest success of the changes within the budget; 0 where none is.
        target: of it.
        budget: largest ``1 - SSIM``.
        seconds: of the search.
    """

    family: str
    success: list[Annotated[float, Field(ge=0, le=1)]]
    dissimilarity: list[float]
    worst: float
    target: int | None
    budget: float
    seconds: float


def natural_backdoors(
    model: nn.Module,
    clean: ImageData,
    families: Sequence[Family] = PLAIN,
    *,
    budget: float = BUDGET,
    settings: dict[str, Any] | None = None,
    coder: Coder | None = None,
    seed: int = 0,
    device: str | torch.device = "auto",
) -> dict[str, Natural]:
    """For each family, the strongest change from all classes to each.

    Args:
        model: any module from images in [0, 1] to logits; stays as it is.
        clean: images that it was not trained on.
        families: each searched alone.
        budget: largest ``1 - SSIM`` of a change.
        settings: numbers of the search that differ from the defaults of `Settings`.
        coder: for the latent family.
        seed: of everything random.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ...

    Raises:
        InvalidInput: families, settings or images do not fit.
        ModelUnsuitable: the model does not take the images.
    """
    limits = {"shrink": None, "limits": {"ssim": budget}, **(settings or {})}
    chosen = Settings.from_dict(limits)
    results: dict[str, Natural] = {}
    for family in families:
        found = attack_pairs(
            model, clean, "classes", families=(family,), settings=chosen, coder=coder, seed=seed,
            device=device,
        )  # fmt: skip
        size = found.measures["ssim"]
        # The limit is a penalty in the search; what exceeds it by more than a tenth is left out.
        within = size <= 1.1 * budget
        success = found.success.where(within, 0.0)
        best = int(success.argmax())
        results[family] = Natural(
            family=family,
            success=found.success.tolist(),
            dissimilarity=size.tolist(),
            worst=float(success[best]),
            target=best if within[best] else None,
            budget=budget,
            seconds=found.seconds,
        )
    return results


@torch.no_grad()
def success_on(
    model: nn.Module,
    found: PairAttack,
    clean: ImageData,
    *,
    seed: int = 0,
    device: str | torch.device = "auto",
    labels: Labels = "given",
) -> Tensor:
    """How often changes that were found in one model lead another astray.

    Args:
        model: the other one, or the same; stays as it is.
        found: of `attack_pairs` or `measure_distances`.
        clean: labelled images of both models' task.
        seed: of which images are changed, 100 of them for each row.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ...
        labels: ``"given"``, or ``"model"`` to take the model's own answers.

    Returns:
        (P,), on the CPU.
    """
    place = resolve_device(device)
    net = Context(model, seed=seed, device=place).frozen_original()
    pool = ClassImages(usable_images(model, clean, labels), place)
    shares = []
    for rows in torch.split(torch.arange(len(found.aims)), max(1, _ROWS // _EACH)):
        aims = found.aims.taken(rows)
        images, truth = pool.draw(aims, _EACH, generator(seed, "success on", int(rows[0])))
        changed = found.change.taken(rows).to(place)(images)
        logits = folded(net(changed.flatten(0, 1)).float(), *changed.shape[:2])
        shares.append(led(logits, truth, aims.targets.to(place)).hits.mean(1).cpu())
    return torch.cat(shares)
