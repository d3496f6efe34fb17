"""MESA as its authors run it: scanner `mesa-reference`, one class after another.

    result, recovered = scan(model, clean, "mesa-reference")
    result.suspect, recovered[result.suspect].levels

For use there is `mesa`; this one is what that is measured against (study `scan-speed`).
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from doorward.data import ImageData
from doorward.errors import InvalidInput
from doorward.records import STRICT
from doorward.scanning.base import Finding, Look, Scanner, file_scanner
from doorward.scanning.measuring import held_out_success, require_several_classes
from doorward.scanning.mesa.distribution import PatchDistribution
from doorward.scanning.mesa.generators import Generators
from doorward.scanning.mesa.reference.constants import Constants
from doorward.scanning.mesa.reference.submodel import fit_submodel
from doorward.scanning.mesa.stamping import paste, random_places
from doorward.scanning.recovered import Recovered
from doorward.training.context import Context

__all__ = ["MesaReference"]

Level = Annotated[float, Field(gt=0, le=1)]


@file_scanner(
    "mesa-reference",
    paper="Qiao et al. 2019, Defending Neural Backdoors via Generative Distribution Modeling",
    finds="opaque square patches of a known size, at any place",
    images="some thousands",
)
@dataclass(frozen=True, kw_only=True, config=STRICT)
class MesaReference(Constants, Scanner):
    """MESA, faithful to the reference code.

    For every class in turn one sub-model of the first level; the class whose triggers succeed most
    is the suspect. Of the classes above the alarm the other levels are modelled, too; together
    they are the distribution that is recovered, each with an equal share, as in the code, which
    takes them in rotation (the paper's weights are left out there). The statistic is the success
    of triggers under `trigger_noise`.

    Args:
        alarm: success above which a class is accused. The paper gives no threshold; ours.
        levels: beta of each sub-model, the one to search with first.
        targets: classes to model at all levels without asking whether they stand out, and no
            others; None to look at all classes.
        held_out: share of the clean images that success is measured on: on one half of them the
            statistic, on the other that of the recovered triggers.

    All other fields are those of `Constants`. The code measures success on the images that it
    trains with; held-out ones are ours.
    """

    searched: ClassVar[str] = (
        "opaque square patches of one given size (3 pixels unless set) at places drawn at random"
    )

    alarm: float = 0.5
    levels: Annotated[tuple[Level, ...], Field(min_length=1)] = (0.9, 0.8, 0.5)
    targets: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] | None = None
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.2

    def check(self, model: nn.Module, clean: ImageData) -> None:
        """The patches must fit into the images, and the targets be classes."""
        _, height, width = clean.image_shape
        if self.size > min(height, width):
            raise InvalidInput(
                f"patches of {self.size} pixels do not fit into images of {height}x{width}",
                remedy="choose a smaller size",
            )
        require_several_classes(clean)
        for target in self.targets or ():
            if target >= clean.num_classes:
                raise InvalidInput(
                    f"there is no class {target}", why=f"classes are 0..{clean.num_classes - 1}"
                )
        if len(set(self.levels)) < len(self.levels):
            raise InvalidInput(f"levels {self.levels} name one twice")
        held = round(self.held_out * len(clean))
        if min(held, len(clean) - held) < 2:
            raise InvalidInput(
                f"{len(clean)} clean images are too few",
                why="two at least must be left to search with, and two to measure success on",
                remedy="give more of them",
            )

    def look(self, model: nn.Module, clean: ImageData, context: Context) -> Look:
        """Search every class, then model what was found at all levels."""
        work, held = context.hold_out(clean, self.held_out)
        held, fresh = context.hold_out(held, 0.5)  # the class is chosen by its success on the first
        parts: dict[int, list[Generators]] = {}

        def fit(target: int, level: float) -> None:
            part = fit_submodel(model, work, context, self, target=target, level=level)
            parts.setdefault(target, []).append(part)

        every = range(clean.num_classes) if self.targets is None else sorted(set(self.targets))
        statistics, details = {}, {}
        for target in every:
            fit(target, self.levels[0])
            # An epoch of one step is one network's turn alone.
            last = next(entry for entry in reversed(context.history) if "gain" in entry)
            found = self._distribution(target, parts[target])
            noisy, draw = _Noisy(found, self.trigger_noise), context.generator("noisy", target)
            statistics[target] = held_out_success(model, noisy, held, draw) or 0.0
            details[target] = {name: last[name] for name in ("gain", "information", "success")}
        for target in every:
            if self.targets is not None or statistics[target] > self.alarm:
                for level in self.levels[1:]:
                    fit(target, level)
        recovered, findings = {}, []
        for target in every:
            found = recovered[target] = self._distribution(target, parts[target])
            success = held_out_success(model, found, fresh, context.generator("held", target))
            findings.append(
                Finding(
                    target=target,
                    statistic=statistics[target],
                    attack_success=success,
                    details={"levels": list(found.levels), "at the end": details[target]},
                )
            )
        return Look(findings, dict(recovered))

    def _distribution(self, target: int, parts: list[Generators]) -> PatchDistribution:
        return PatchDistribution.of(
            target,
            Generators.join(parts),
            sizes=[self.size] * len(parts),
            levels=self.levels[: len(parts)],
            places=self.places,
        ).to(parts[0].weights[0].device)


class _Noisy(Recovered):
    """A distribution whose patches are stamped under noise, which may leave [0, 1]."""

    def __init__(self, found: PatchDistribution, noise: float) -> None:
        super().__init__(found.target)
        self.found, self.noise = found, noise

    def config(self) -> dict[str, Any]:
        return self.found.config()

    def stamp(self, images: Tensor, draw: torch.Generator) -> Tensor:
        count, _, height, width = images.shape
        patches = self.pictures(count, draw).to(images.device)
        size = patches.shape[2]
        rows, columns = random_places(count, (height - size, width - size), draw, self.found.places)
        return paste(images, patches, rows, columns)

    def pictures(self, count: int, draw: torch.Generator) -> Tensor:
        patches, _ = self.found.sample(count, draw)
        shift = torch.randn(patches.shape, generator=draw).to(patches.device)
        return patches + self.noise * shift
