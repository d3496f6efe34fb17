"""How one search is done, and how its success is measured, on the images of one scan.

    shop = Workshop(model, clean, context, held_out=0.25, batch_size=256)
    shop.fit("look", plan, generators, places, steps=30, images=8, spread=False)
    hit, chance, reached = shop.probe("look", plan, generators, places, images=64)

Looks are judged by images that no search has seen; what they chose, by fresh ones.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from doorward.data import ImageData
from doorward.scanning.mesa.generators import Generators
from doorward.scanning.mesa.placing import Places
from doorward.scanning.mesa.pressing import Plan, foreign_rows, press
from doorward.scanning.mesa.search import Hunt, Mine, Staircase
from doorward.training import Recipe
from doorward.training.context import Context

__all__ = ["Workshop"]

MOST_PROBED = 1024
"""Held-out images that a probe draws from: they are kept as floats on the device."""


class Workshop:
    """What all rounds of a scan share: the model, the images, and how a search is done.

    Args:
        model: frozen, on the context's device.
        clean: clean images; a part is held out from the search.
        context: of the scan.
        held_out: share of the images that looks are judged by.
        fresh: share of the images for the last figure; 0 for none.
        batch_size: stamped images per pass through the classifier.
        lr: of Adam.
        jitter: deviation of noise on the patches.
        valid: share of stamped images that shall reach the level.
        alpha: first weight of the entropy, where there is one.
        entropy: ``"knn"`` or ``"mine"``.

    Attributes:
        work: images to search on.
        held: images to judge looks by.
        fresh: images that neither saw; all images where no share was given.
        pressed: stamped images that went forward and back through the classifier so far.
        probed: those that went forward only.
    """

    def __init__(
        self,
        model: nn.Module,
        clean: ImageData,
        context: Context,
        *,
        held_out: float,
        fresh: float = 0.0,
        batch_size: int,
        lr: float = 0.01,
        jitter: float = 0.0,
        valid: float = 0.95,
        alpha: float = 0.1,
        entropy: Literal["knn", "mine"] = "knn",
    ) -> None:
        self.model, self.context = model, context
        # What is chosen by its success here succeeds less elsewhere: hence a third part.
        rest, self.fresh = context.hold_out(clean, fresh) if fresh else (clean, clean)
        self.work, self.held = context.hold_out(rest, held_out / (1 - fresh))
        few = self.held
        if len(few) > MOST_PROBED:
            few = few.sample(MOST_PROBED, seed=context.seed_of("probed images"))
        self.seen = few.pixels().to(context.device)
        self.seen_labels = few.labels.to(context.device)
        self.batch_size, self.lr, self.jitter = batch_size, lr, jitter
        self.valid, self.alpha, self.entropy = valid, alpha, entropy
        self.pressed = self.probed = 0

    def fit(
        self,
        name: str,
        plan: Plan,
        generators: Generators,
        places: Places,
        *,
        steps: int,
        images: int,
        spread: bool,
    ) -> Staircase:
        """Search with a stack of generators, in place.

        Args:
            name: of the phase in the history.
            plan: what each is to find.
            generators: trained in place.
            places: learnt in place.
            steps: optimiser steps.
            images: per generator and step.
            spread: whether entropy is wanted; without, each finds a point or little more.

        Returns:
            The objective, with its multipliers as they ended.
        """
        context = self.context
        mine = None
        if spread and self.entropy == "mine":
            mine = Mine(generators, context.generator("mine", name)).to(context.device)
        staircase = Staircase(
            plan,
            places,
            channels=generators.channels,
            seed=context.seed_of("stamps", name),
            images=images,
            batch_size=self.batch_size,
            alpha=self.alpha if spread else 0.0,
            valid=self.valid,
            jitter=self.jitter,
        )
        pool = min(len(self.work), 4 * images)  # so that each generator can take other images
        recipe = Recipe(
            epochs=steps / math.ceil(len(self.work) / pool) + 1,
            max_steps=steps,
            batch_size=pool,
            optimizer="adam",
            lr=self.lr,
            betas=(0.5, 0.9),
            schedule="cosine" if spread else "constant",
            divergence=1e9,  # a sum over generators whose levels may be far away at first
            seed=context.seed_of("order", name),
        )
        hunt = Hunt(self.model, generators.train(), mine)
        context.fit(name, hunt, staircase, self.work, recipe)
        generators.eval()
        self.pressed += steps * images * len(plan)
        return staircase

    @torch.no_grad()
    def probe(
        self, name: str, plan: Plan, generators: Generators, places: Places, images: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Try generators on held-out images of other classes.

        Args:
            name: of the draws.
            plan: of the generators.
            generators: in evaluation mode.
            places: where they go; only the best place of fixed ones is used.
            images: per generator.

        Returns:
            Share of images sent to the class, mean probability of it, share that reaches the
            level: (M,) each, on the CPU. 0 where there is no image of another class.
        """
        draw = self.context.generator("probe", name)
        targets = torch.tensor(plan.targets, device=self.seen.device)
        patches = generators(generators.noise(images, draw))
        rows, usable = foreign_rows(self.seen_labels, targets, images, draw)
        height, width = self.seen.shape[2:]
        corners, _, _ = places.draw(images, (height, width), draw, settled=True)
        done = press(
            self.model,
            self.seen,
            patches,
            rows,
            corners,
            plan,
            batch_size=self.batch_size,
            slope=False,
        )
        self.probed += images * len(plan)
        levels = torch.tensor(plan.levels, device=usable.device)[:, None]
        shares = (done.hit.float(), done.chance, (done.chance >= levels).float())
        hit, chance, reached = ((share.mean(1) * usable).cpu() for share in shares)
        return hit, chance, reached
