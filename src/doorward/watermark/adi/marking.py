"""Mark(M, mk): the paper's two ways to embed, with its schedules, k = 2 and mixed batches.

>>> recipe = paper_recipe()
>>> recipe.epochs, recipe.batch_size, recipe.lr, recipe.weight_decay
(60.0, 100, 0.1, 0.0005)
>>> tiny = paper_pretrained_recipe()
>>> round(tiny.lr, 6), [round(60 * milestone) for milestone in tiny.milestones]
(0.001, [1, 21, 41])

**FromScratch** trains with 2 triggers in each batch of 100, BatchNorm in training mode on all 102
images, learning rate 0.1 divided by 10 every 20 of 60 epochs. That recipe is unstable in its first
steps: of three public re-runs of the authors' code two had a NaN loss from epoch 0 and never
recovered. Here such a run ends in `TrainingDiverged`; ``warmup_epochs`` avoids it.

**PreTrained** is, in the authors' code, `--resume`, which goes on with the *epoch counter* of the
first training: a model saved in epoch 59 gets 1e-3 for one epoch, 1e-4 for twenty, then 1e-5 and
1e-6. Such small rates are a plausible reason why these marks are the weaker ones. Our own way to
mark a trained model is `doorward.watermark.pretrained_recipe`.
"""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from typing import Any

from torch import nn

from doorward.data import Augment, ImageSource
from doorward.errors import InvalidInput
from doorward.training import Recipe
from doorward.watermark.adi.answers import matches_and_chance
from doorward.watermark.embedding import EmbedResult, Mode, embed
from doorward.watermark.triggerset import TriggerSet

__all__ = ["PER_BATCH", "paper_mark", "paper_pretrained_recipe", "paper_recipe"]

PER_BATCH = 2
"""k, triggers per batch; the best of 2, 4 and 8 in the paper."""

LARGEST_RATE = 0.1
DROPS = 3
"""A training has three parts of equal length, each at a tenth of the rate before."""

CIFAR = Augment(pad_crop=4, flip=True)


def paper_recipe(
    epochs: int = 60,
    *,
    batch_size: int = 100,
    warmup_epochs: float = 0.0,
    augment: Augment = CIFAR,
    seed: int = 0,
) -> Recipe:
    """The paper's training from scratch: SGD at 0.1, divided by 10 after each third.

    CIFAR: 60 epochs in batches of 100 (the defaults). ImageNet: 30 epochs in batches of 256.

    Args:
        epochs: passes over the data; a shorter run keeps its thirds.
        batch_size: clean images per step.
        warmup_epochs: of these, with a linearly rising rate. 0 is the paper's, and unstable at the
            first steps; one epoch is enough to be safe.
        augment: theirs for CIFAR; leave out `flip` where mirrored images are other classes.
        seed: of everything random.

    Raises:
        InvalidInput: an argument is out of range.
    """
    if not 0 <= warmup_epochs < epochs:
        raise InvalidInput(
            f"{warmup_epochs} epochs of warm-up in {epochs} epochs",
            why="the warm-up is a part of the training",
        )
    return _recipe(range(epochs), epochs, batch_size, augment, seed, warmup=warmup_epochs / epochs)


def paper_pretrained_recipe(
    epochs: int = 60,
    *,
    trained: int = 60,
    batch_size: int = 100,
    augment: Augment = CIFAR,
    seed: int = 0,
) -> Recipe:
    """The schedule that the authors' `--resume` amounts to: the epoch counter goes on.

    Args:
        epochs: passes over the data, as many as the first training had.
        trained: epochs of the first training, of which the last one, ``trained - 1``, was saved;
            the rate is divided by 10 after each third of it, and goes on being so.
        batch_size: clean images per step.
        augment: as in `paper_recipe`.
        seed: of everything random.

    Raises:
        InvalidInput: an argument is out of range.
    """
    if trained < 1:
        raise InvalidInput(
            f"the model was trained for {trained} epochs", why="1 or more are needed"
        )
    resumed = range(trained - 1, trained - 1 + epochs)
    return _recipe(resumed, trained, batch_size, augment, seed, warmup=0.0)


def paper_mark(
    model: nn.Module,
    source: ImageSource,
    key: TriggerSet,
    recipe: Recipe | None = None,
    *,
    mode: Mode = "from-scratch",
    per_batch: int = PER_BATCH,
    validation: ImageSource | None = None,
    **fit_options: Any,
) -> EmbedResult:
    """Backdoor(O^f, b, M) of the paper: `embed` with its recipe, k = 2 and no adjustments.

    Args:
        model: changed in place: fresh for ``"from-scratch"``, trained for ``"pretrained"``.
        source: the task's training images.
        key: whose triggers; usually a `PaperKey`.
        recipe: None for `paper_recipe` or `paper_pretrained_recipe`, by `mode`.
        mode: ``"from-scratch"`` (FromScratch) or ``"pretrained"`` (PreTrained).
        per_batch: k. With 50,000 images in batches of 100, k = 2 shows each of 100 triggers 10
            times an epoch; on much smaller sets it is too few, and `embed` chooses better.
        validation: data to measure the accuracy on.
        fit_options: passed on to `training.fit`.

    Returns:
        What was done (see `embed`); the p-value is the one that fits the key's labels.

    Raises:
        InvalidInput, ModelUnsuitable: as `embed`.
        TrainingDiverged: most likely at the first steps; use ``paper_recipe(warmup_epochs=1)``.
    """
    if recipe is None:
        recipe = paper_recipe() if mode == "from-scratch" else paper_pretrained_recipe()
    result = embed(
        model,
        source,
        key,
        recipe,
        mode=mode,
        per_batch=per_batch,
        validation=validation,
        **fit_options,
    )
    _, log2_p = matches_and_chance(key, model)
    return replace(result, p_value=2.0**log2_p, log2_p=log2_p)


def _recipe(
    counter: range, trained: int, batch_size: int, augment: Augment, seed: int, *, warmup: float
) -> Recipe:
    """The recipe whose epoch *e* has rate 0.1 * 0.1^(drops passed), as `counter` counts epochs."""
    if len(counter) < 1:
        raise InvalidInput(f"{len(counter)} epochs", why="1 or more are needed")
    third = Fraction(trained, DROPS)
    passed = counter.start // third
    ahead = range(passed + 1, math.ceil(Fraction(counter.stop) / third))
    milestones = [(drop * third - counter.start) / len(counter) for drop in ahead]
    return Recipe(
        epochs=len(counter),
        batch_size=batch_size,
        lr=LARGEST_RATE * 0.1**passed,
        momentum=0.9,
        nesterov=False,
        weight_decay=5e-4,
        schedule="step",
        # Rounded down: a float just above the fraction would put the drop off by one step.
        milestones=tuple(math.nextafter(float(milestone), 0) for milestone in milestones),
        gamma=0.1,
        warmup=warmup,
        batchnorm="train",
        precision="fp32",
        augment=augment,
        seed=seed,
    )
