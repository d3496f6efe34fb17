"""Two marks in one model: which was there first? Fine-tune copies, and see which fades.

    result = asymmetry_test(disputed, (ada_key, eve_key), clean)
    result.older, result.p_value, result.explain()

Adi et al. (2018) find that a mark which was embedded into a model that carried one already
disappears under fine-tuning (FTAL, RTAL) sooner than the one that grew up with the model. Theirs is
a comparison of bar heights; here every trigger counts in how many of several fine-tunings it
survives, and an exact permutation test (`permutation_tail`) says how easily two marks that do not
differ would look so different.

**What it does not say.** The test finds the mark that is *harder to forget*. That this is the older
one holds where the younger was embedded gently, as in the paper, whose rates for trained models are
a hundredth of the training's. A pirate who trains as hard as the owner did roots his mark as
deeply, and wears the owner's down meanwhile. So the test abstains where the harder mark is complete
and the other had lost some of its triggers before the test began; and it is supporting
evidence, beside time stamps. The study ``watermark-piracy`` measures both kinds of pirates.

>>> from doorward.models import create
>>> from doorward.data import load
>>> from doorward.watermark.key import WatermarkKey
>>> digits = load("digits").sample(64, seed=0).resized(16)
>>> keys = [WatermarkKey.new(n=12, classes=10, image_shape=(1, 16, 16)) for _ in range(2)]
>>> model = create("resnet8", classes=10, input_shape=(1, 16, 16), width=4)
>>> gentle = drills(rates=(0.01,), epochs=1)
>>> result = asymmetry_test(model, (keys[0], keys[1]), digits, drills=gentle)
>>> result.older, len(result.rounds)
(None, 2)
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from doorward.data import Augment, ImageData
from doorward.errors import InvalidInput
from doorward.metrics import accuracy, predict
from doorward.models import find_head, replace_head, require_model
from doorward.removal import FineTuning, remove
from doorward.watermark.disputes.persistence import Asymmetry, Round, compare_survival
from doorward.watermark.triggerset import TriggerSet

__all__ = ["asymmetry_test", "drills"]


def drills(
    *,
    rates: Sequence[float] = (0.003, 0.01, 0.03, 0.1),
    epochs: float = 2.0,
    batch_size: int = 128,
    augment: Augment | None = None,
) -> tuple[FineTuning, ...]:
    """FTAL and RTAL at several learning rates: from too gentle for any mark to too rough.

    Args:
        rates: learning rates, constant over each run. Several are needed, because where both marks
            survive, or neither, nothing is learnt.
        epochs: passes over the clean images in each run.
        batch_size: images per step.
        augment: random changes of the images.
    """
    return tuple(
        FineTuning(
            layers="all",
            reinit_head=fresh,
            lr=rate,
            epochs=epochs,
            batch_size=batch_size,
            augment=augment or Augment(),
        )
        for rate in rates
        for fresh in (False, True)
    )


def asymmetry_test(
    model: nn.Module,
    marks: tuple[TriggerSet, TriggerSet],
    clean: ImageData,
    *,
    drills: Sequence[FineTuning] = drills(),
    alpha: float = 0.001,
    validation: ImageData | None = None,
    seed: int = 0,
    device: str | torch.device = "auto",
) -> Asymmetry:
    """Fine-tune copies of a model that carries two marks, and compare how the marks survive.

    Args:
        model: the disputed model, with weights; it is not changed.
        marks: the two parties' triggers, of the model's image shape and number of classes.
        clean: clean images of the model's task, with labels.
        drills: fine-tunings, fixed beforehand (`drills`); those with ``reinit_head`` are judged
            under the old head, as in the paper.
        alpha: level of the decision, in (0, 1).
        validation: images to measure accuracy on after each round.
        seed: of the fine-tunings.
        device: where to fine-tune.

    Returns:
        Which mark survives better, with the exact two-sided p-value over triggers, and whether
        that makes it the older one.

    Raises:
        InvalidInput: the marks or images do not fit the model, no drills, or `alpha` out of range.
        ModelUnsuitable: the model has no head, or cannot be copied.
        TrainingDiverged: a learning rate is too high for this model.

    Adi et al. (2018), section 5: FTAL and RTAL after overwriting, with the old head for RTAL. Ours:
    a ladder of learning rates, survival per trigger, the test, and that it may abstain.
    """
    _check(model, marks, clean, drills, alpha)
    shown = [mark.triggers() for mark in marks]
    before = [_matching(model, *triggers) for triggers in shown]
    scores = [[0] * int(known.sum()) for known in before]
    rounds = []
    for number, drill in enumerate(drills):
        tuned, _ = remove(model, clean, drill, seed=seed + number, device=device)
        after = None if validation is None else accuracy(tuned, validation)
        if drill.reinit_head:
            replace_head(tuned, copy.deepcopy(find_head(model)[1]))
        survived = []
        for place, (known, triggers) in enumerate(zip(before, shown, strict=True)):
            alive = _matching(tuned, *triggers)[known].tolist()
            scores[place] = [score + kept for score, kept in zip(scores[place], alive, strict=True)]
            survived.append(sum(alive))
        rounds.append(
            Round(
                drill=_name(drill),
                lr=drill.lr,
                epochs=drill.epochs,
                survived=(survived[0], survived[1]),
                accuracy=after,
            )
        )
    sizes = (marks[0].n, marks[1].n)
    return compare_survival(sizes, scores, rounds, alpha=alpha, seed=seed)


def _name(drill: FineTuning) -> str:
    """The paper's four letters: fine-tune or re-train, all layers or the last layer."""
    head, layers = "RT" if drill.reinit_head else "FT", "AL" if drill.layers == "all" else "LL"
    return head + layers


def _matching(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    return predict(model, images.float() / 255).argmax(1) == labels


def _check(
    model: nn.Module,
    marks: tuple[TriggerSet, TriggerSet],
    clean: ImageData,
    drills: Sequence[FineTuning],
    alpha: float,
) -> None:
    if len(marks) != 2 or not drills or not 0 < alpha < 1:
        raise InvalidInput(
            f"{len(marks)} marks, {len(drills)} fine-tunings, alpha {alpha}",
            why="two marks, at least one fine-tuning and a level between 0 and 1 are needed",
        )
    for mark in marks:
        if mark.image_shape != clean.image_shape or mark.classes != clean.num_classes:
            raise InvalidInput(
                f"a mark is for {mark.classes} classes of images {mark.image_shape}",
                why=f"{clean.name} has {clean.num_classes} classes of images {clean.image_shape}",
                remedy="give clean images of the model's own task",
            )
    require_model(model, input_shape=clean.image_shape, classes=clean.num_classes)
