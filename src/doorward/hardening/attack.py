"""The attack on pairs of classes: the smallest change, or the strongest within a budget.

    found = attack_pairs(model, clean)                          # every ordered pair, whole images
    found = attack_pairs(model, clean, "classes", families=("flow",))
    strong = Settings(shrink=None, limits={"ssim": 0.1})
    found = attack_pairs(model, clean, [(3, 5)], settings=strong)
    found.success, found.measures["pixel"]                      # on images the search has not seen

All rows share one forward pass through the frozen model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

from doorward.data import ImageData
from doorward.errors import InvalidInput
from doorward.hardening.aims import Aims, Mode
from doorward.hardening.engine import PairAttack, attack_in
from doorward.hardening.settings import Settings
from doorward.hardening.transforms import PLAIN, Coder, Family, Space
from doorward.training.context import Context, Labels, usable_images
from doorward.training.distributed import resolve_device

__all__ = ["attack_pairs", "space_of"]


def attack_pairs(
    model: nn.Module,
    clean: ImageData,
    aims: Mode | Sequence[tuple[int | None, int | None]] = "pairs",
    *,
    families: Sequence[Family] | Literal["patch"] = PLAIN,
    space: Space | None = None,
    settings: Settings | None = None,
    starts: int = 1,
    coder: Coder | None = None,
    reference: nn.Module | None = None,
    seed: int = 0,
    device: str | torch.device = "auto",
    labels: Labels = "given",
    progress: bool = False,
) -> PairAttack:
    """Lead the images of classes to other classes by one change per pair.

    Args:
        model: any module from images in [0, 1] to logits; stays as it is.
        clean: images of the model's task, at least 4 of each class that is attacked from.
        aims: ``"pairs"``, ``"classes"``, ``"universal"`` (see `Aims.of`), or pairs
            (source, target), where None stands for all other classes, or any.
        families: parts of the whole-image change, or ``"patch"`` for a mask and a pattern.
        space: families with their bounds instead.
        settings: of the search; by default the change with the smallest L2 norm is sought, for
            patches the smallest mask.
        starts: random starts per pair, each a row.
        coder: encoder-decoder of the latent family; trained on the clean images where it is
            needed and not given.
        reference: model whose feature maps ``"lpips"`` compares; the attacked one if None.
        seed: of everything random.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ...
        labels: ``"given"``, or ``"model"`` to take the model's own answers.
        progress: whether to draw progress bars.

    Raises:
        InvalidInput: aims, images or options do not fit; said before the search.
        ModelUnsuitable: the model does not take the images.
    """
    target = resolve_device(device)
    clean = usable_images(model, clean, labels)
    space = space_of(families, space)
    settings = settings or (Settings(shrink="patch", lr=0.1) if space is None else Settings())
    chosen = Aims.of(aims, clean.num_classes, starts=starts)
    context = Context(model, seed=seed, device=target, progress=progress, room="hardening")
    return attack_in(context, clean, chosen, space, settings, coder=coder, reference=reference)


def space_of(families: Sequence[Family] | str, space: Space | None) -> Space | None:
    """The space of an attack; None for patches.

    Raises:
        InvalidInput: a family is unknown, or families and space contradict each other.

    >>> space_of(("flow",), None).families, space_of("patch", None)
    (('flow',), None)
    """
    if isinstance(families, str):
        if families != "patch" or space is not None:
            raise InvalidInput(
                f"families is {families!r}", why="names of families, or 'patch' alone, is expected"
            )
        return None
    if space is not None and tuple(families) != PLAIN:
        raise InvalidInput("both families and a space are given", remedy="put them in the space")
    return space or Space.from_dict({"families": tuple(families)})
