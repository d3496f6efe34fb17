"""Neural Cleanse's repair: invert the trigger of every class, unlearn those that stand out.

>>> CleanseUnlearning().stamped_share, CleanseUnlearning().alarm
(0.2, 2.0)
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from doorward.data import Batch, ImageData
from doorward.errors import InvalidInput
from doorward.randomness import generator
from doorward.records import STRICT
from doorward.removal.base import file_removal
from doorward.removal.tuning import Count, NonNegative, Positive, Probability, TunedRemoval
from doorward.scanning.inversion import Reversed, anomaly_index, invert
from doorward.training.context import Context

__all__ = ["CleanseUnlearning"]


@file_removal(
    "nc-unlearning",
    paper="Wang et al. 2019, Neural Cleanse: Identifying and Mitigating Backdoor Attacks",
    needs="nothing beyond trainable weights",
)
@dataclass(frozen=True, kw_only=True, config=STRICT)
class CleanseUnlearning(TunedRemoval):
    """Invert a patch for every class, and train the suspicious ones away under true labels.

    Args:
        targets: classes to unlearn; None for those whose smallest patch is anomalously small.
        alarm: anomaly index above which a class is suspicious.
        stamped_share: of every batch's images that carry an inverted patch, labels kept.
        search_epochs: of the inversion; the weight of the patches' size is adapted after each.
        search_batch_size: images per step of it, each stamped for every class.
        search_lr: of it (Adam).
        success: share of the images that a patch must send to its class.
        patience: epochs in a row before the weight of its size is adapted.

    All other fields are those of `TunedRemoval`. Constants of BackdoorBench (20 % stamped, 80
    epochs of inversion, success 0.98). Where no class stands out, the model comes back unchanged:
    the method is as good as its detection, which misses triggers that cover the image.
    """

    targets: tuple[int, ...] | None = None
    alarm: NonNegative = 2.0
    stamped_share: Probability = 0.2
    search_epochs: Count = 80
    search_batch_size: Count = 32
    search_lr: Positive = 0.1
    success: Annotated[float, Field(gt=0, le=1)] = 0.98
    patience: Count = 5

    def check(self, model: nn.Module, clean: ImageData) -> None:
        """The targets must be classes."""
        for target in self.targets or ():
            if not 0 <= target < clean.num_classes:
                raise InvalidInput(
                    f"there is no class {target}", why=f"classes are 0..{clean.num_classes - 1}"
                )

    def repair(self, model: nn.Module, clean: ImageData, context: Context) -> nn.Module:
        """Invert, judge, unlearn."""
        found = invert(
            context.copy_of_original(),
            clean,
            context,
            epochs=self.search_epochs,
            batch_size=self.search_batch_size,
            lr=self.search_lr,
            wanted=self.success,
            patience=self.patience,
        )
        index = anomaly_index(found.norms)
        suspects = [int(k) for k in (found.reached & (index > self.alarm)).nonzero().flatten()]
        targets = suspects if self.targets is None else list(self.targets)
        context.note(
            targets=targets,
            suspects=suspects,
            anomaly_index=index.tolist(),
            mask_norms=found.norms.tolist(),
            success=found.success.tolist(),
        )
        if targets:
            objective = _Unlearn(found, targets, self.stamped_share, context.seed_of("rows"))
            recipe = self.recipe(context.seed_of("unlearn"))
            context.fit("unlearn", model, objective, clean, recipe)
        return model


class _Unlearn:
    def __init__(self, found: Reversed, targets: list[int], share: float, seed: int) -> None:
        self.found, self.share, self.seed = found, share, seed
        self.targets = torch.tensor(targets)

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        draw = generator(self.seed, batch.step)
        rows = torch.randperm(len(batch), generator=draw)[: round(self.share * len(batch))]
        which = torch.randint(len(self.targets), (len(rows),), generator=draw)
        images = batch.images.clone()
        rows = rows.to(images.device)
        images[rows] = self.found.stamp(images[rows], self.targets[which])
        logits = model(images).float()
        accuracy = (logits.detach().argmax(1) == batch.labels).float().mean()
        return F.cross_entropy(logits, batch.labels), {"accuracy": accuracy}
