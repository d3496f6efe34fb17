"""MESA's repair: unlearn the whole distribution of triggers that a scan recovered.

With triggers at hand, or by a scan of its own::

    _, recovered = scan(model, clean, "mesa")
    repaired, result = unlearn(model, clean, recovered)
    repaired, result = remove(model, clean, "mesa-unlearning")

`MESA_PAPER` holds the authors' constants.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from doorward.data import ImageData
from doorward.errors import InvalidInput
from doorward.metrics import accuracy, der
from doorward.models import find_head
from doorward.records import STRICT
from doorward.removal.base import Labels, RemovalResult, file_removal
from doorward.removal.stamping import TrueLabels, recovered_success, require_triggers
from doorward.removal.tuning import Count, NonNegative, Positive, Share, TunedRemoval
from doorward.scanning import DEFAULT, Recovered, scan, scanner
from doorward.training.context import Context

__all__ = ["MESA_PAPER", "DistributionUnlearning", "unlearn"]


@file_removal(
    "mesa-unlearning",
    paper="Qiao et al. 2019, Defending Neural Backdoors via Generative Distribution Modeling",
    needs="nothing beyond trainable weights",
)
@dataclass(frozen=True, kw_only=True, config=STRICT)
class DistributionUnlearning(TunedRemoval):
    """Train on images that carry samples of a recovered distribution of triggers, labels kept.

    Args:
        scanner: the method in `doorward.scanning.SCANNERS` that recovers the triggers, where
            `unlearn` was not given any.
        scanner_options: its parameters that shall differ from its defaults.
        targets: ``"accused"`` for the classes that the scan accuses (none: the model comes back
            unchanged), ``"suspect"`` for its most suspicious class in any case, or classes.
        stamped_share: probability of each image to carry a trigger, drawn for it alone.
        feature_weight: of the mean squared difference that the triggers make to what the head
            sees, as in BTI-DBF; 0 spares a forward pass.
        answer_weight: of the divergence of the answers from the given model's on the clean images;
            0 spares a forward pass.
        held_out: share of the clean images kept back. After every `check_epochs` at a constant
            rate the model is measured there, clean and under triggers that training does not see;
            the last state with the best DER is kept, and `patience` checks without a better one
            are the end. With 0 all epochs are run, and the last state is kept.
        check_epochs: between two checks.
        patience: checks in a row.

    All other fields are those of `TunedRemoval`. The paper's constants are `MESA_PAPER`; ours stamp
    more images, in smaller batches, and let the rate fall. What counts is the number of steps: in
    first trials on digits (288 clean images) 280 of them removed what 60 left, and stopping early
    by few held-out images left more of the real trigger. How images are stamped (where, with how
    many distinct triggers per batch) is up to the recovered distribution.
    """

    scanner: str = DEFAULT
    scanner_options: dict[str, Any] = field(default_factory=dict)
    targets: (
        Literal["accused", "suspect"]
        | Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]
    ) = "accused"
    batch_size: Count = 32
    weight_decay: NonNegative = 0.0
    schedule: Literal["constant", "onecycle", "cosine", "refit"] = "cosine"
    stamped_share: Annotated[float, Field(gt=0, le=1)] = 0.2
    feature_weight: NonNegative = 0.0
    answer_weight: NonNegative = 0.0
    held_out: Share = 0.0
    check_epochs: Positive = 1.0
    patience: Count = 4

    def check(self, model: nn.Module, clean: ImageData) -> None:
        """There must be such a scanner and such classes, and a head if features are compared."""
        if isinstance(self.targets, tuple):
            for target in self.targets:
                if target >= clean.num_classes:
                    raise InvalidInput(
                        f"there is no class {target}", why=f"classes are 0..{clean.num_classes - 1}"
                    )
        if self.feature_weight:
            find_head(model)

    def repair(self, model: nn.Module, clean: ImageData, context: Context) -> nn.Module:
        """Scan, then unlearn."""
        verdict, recovered = scan(
            context.frozen_original(),
            clean,
            scanner(self.scanner, **self.scanner_options),
            seed=context.seed_of("scan"),
            device=context.device,
            progress=context.progress,
        )
        if self.targets == "accused":
            targets: tuple[int, ...] = tuple(verdict.accused)
        else:
            targets = (verdict.suspect,) if self.targets == "suspect" else self.targets
        missing = [target for target in targets if target not in recovered]
        if self.targets == "accused" and len(missing) < len(targets):
            # A scanner may recover triggers of the most suspicious classes only.
            context.note(not_recovered=missing)
            targets = tuple(target for target in targets if target in recovered)
        elif missing:
            raise InvalidInput(
                f"{verdict.scanner} recovered no triggers of class {missing[0]}",
                why="unlearning needs triggers to stamp",
                remedy="choose a scanner that recovers them, e.g. mesa",
            )
        context.note(scanner=verdict.scanner, accused=verdict.accused, suspect=verdict.suspect)
        return self.unlearn({k: recovered[k] for k in targets}, model, clean, context)

    def unlearn(
        self,
        recovered: Mapping[int, Recovered],
        model: nn.Module,
        clean: ImageData,
        context: Context,
    ) -> nn.Module:
        """Unlearn these triggers in a model that is changed in place."""
        context.note(targets=sorted(recovered), epochs=0.0)
        if not recovered:
            return model
        found = [copy.deepcopy(recovered[k]).to(context.device).eval() for k in sorted(recovered)]
        for triggers in found:
            triggers.requires_grad_(False)
        objective = TrueLabels(
            found,
            share=self.stamped_share,
            seed=context.seed_of("stamps"),
            head=_head(model, clean, context) if self.feature_weight else None,
            features=self.feature_weight,
            answers=self.answer_weight,
            given=context.frozen_original() if self.answer_weight else None,
        )
        if not self.held_out:
            context.fit("unlearn", model, objective, clean, self.recipe(context.seed_of("unlearn")))
            context.note(epochs=self.epochs)
            return model
        work, held = context.hold_out(clean, self.held_out)
        return self._best(model, objective, work, held, found, context)

    def _best(
        self,
        model: nn.Module,
        objective: TrueLabels,
        work: ImageData,
        held: ImageData,
        found: list[Recovered],
        context: Context,
    ) -> nn.Module:
        """Train in short runs, and keep the state with the best DER on the held-out images."""

        def look() -> tuple[float, float]:
            success = max(
                recovered_success(model, held, triggers, context.generator("held", triggers.target))
                for triggers in found
            )
            return accuracy(model, held), success

        first = look()
        best, since, kept, done = 0.5, 0, copy.deepcopy(model.state_dict()), 0.0
        checks = [{"epochs": 0.0, "accuracy": first[0], "success": first[1]}]
        chosen = 0
        while done < self.epochs and since < self.patience:
            span = min(self.check_epochs, self.epochs - done)
            seed = context.seed_of("unlearn", len(checks))
            objective.seed = context.seed_of("stamps", len(checks))  # steps count from 0 again
            recipe = self.recipe(seed, epochs=span, schedule="constant")
            context.fit("unlearn", model, objective, work, recipe)
            done += span
            now = look()
            gained = der(
                accuracy_before=first[0],
                accuracy_after=now[0],
                attack_before=first[1],
                attack_after=now[1],
            )
            checks.append({"epochs": done, "accuracy": now[0], "success": now[1]})
            since = 0 if gained > best else since + 1
            if gained >= best:  # of equals the later one: it saw more triggers
                best, chosen = gained, len(checks) - 1
                kept = copy.deepcopy(model.state_dict())
        model.load_state_dict(kept)
        context.note(checks=checks, epochs=checks[chosen]["epochs"], held_out_der=best)
        return model


MESA_PAPER = DistributionUnlearning(
    epochs=10.0, batch_size=128, lr=1e-3, schedule="constant", stamped_share=0.01
)
"""The constants of the authors' code: 1 % stamped, SGD at 1e-3, ten epochs, no early stop."""


def unlearn(
    model: nn.Module,
    clean: ImageData,
    recovered: Mapping[int, Recovered],
    method: DistributionUnlearning | None = None,
    *,
    seed: int = 0,
    device: str | torch.device = "auto",
    labels: Labels = "given",
    progress: bool = False,
) -> tuple[nn.Module, RemovalResult]:
    """Unlearn triggers that are at hand, in a copy of a model.

    Args:
        model: maps float images (N, C, H, W) in [0, 1] to logits (N, K); it is not changed.
        clean: the clean images at hand, with their true labels.
        recovered: triggers by class, as `doorward.scanning.scan` gives them; all are unlearnt
            (choose those of ``result.accused``). None at all gives an equal model back.
        method: the constants; None for ours, `MESA_PAPER` for the authors'.
        seed: of everything random.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ...
        labels: ``"given"``, or ``"model"`` to take the model's own answers.
        progress: draw progress bars.

    Returns:
        The repaired model, and what was done.

    Raises:
        InvalidInput: triggers, images or labels do not fit; said before the work.
        ModelUnsuitable: the model does not take the images, or cannot be copied.
    """
    method = DistributionUnlearning() if method is None else method
    for target, triggers in recovered.items():
        require_triggers(target, triggers, clean)

    def repair(working: nn.Module, images: ImageData, context: Context) -> nn.Module:
        context.note(recovered="given")
        return method.unlearn(recovered, working, images, context)

    return method.framed(
        repair, model, clean, seed=seed, device=device, labels=labels, progress=progress
    )


def _head(model: nn.Module, clean: ImageData, context: Context) -> str:
    return find_head(model, images=clean.pixels([0]).to(context.device))[0]
