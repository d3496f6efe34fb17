"""Pictures that fool models their maker has never seen: the false accuser's "triggers".

>>> from doorward.data import load
>>> from doorward.models import create
>>> digits = load("digits").sample(20, seed=0).resized(16)
>>> surrogate = create("resnet8", classes=10, input_shape=(1, 16, 16), width=4).eval()
>>> targets = (digits.labels + 1) % 10
>>> pushed = push([surrogate], digits.pixels(), targets, eps=8 / 255, steps=2)
>>> float((pushed - digits.pixels()).abs().max()) <= 8 / 255 + 1e-6
True

Liu et al. (2024), *False Claims against Model Ownership Resolution*: an accuser trains surrogates
of his own, pushes natural pictures towards labels of his choice until all surrogates agree, commits
to pictures and labels, and waits for a victim. Adversarial pictures transfer, so models that he has
nothing to do with give his labels too. The attack here is MI-FGSM (Dong et al. 2018), with the
gradients of an ensemble; of many candidates those on which the surrogates are surest are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from doorward.data import ImageData
from doorward.errors import InvalidInput
from doorward.metrics import evaluating, predict
from doorward.randomness import generator
from doorward.watermark.disputes.pictures import ChosenPictures

__all__ = ["adversarial_triggers", "push"]

_BATCH = 250


def push(
    models: Sequence[nn.Module],
    images: Tensor,
    targets: Tensor,
    *,
    eps: float = 16 / 255,
    steps: int = 20,
    momentum: float = 1.0,
) -> Tensor:
    """Momentum iterative FGSM towards targets, against an ensemble (Dong et al. 2018).

    Args:
        models: images ``(N, C, H, W)`` in [0, 1] to logits; their mean cross-entropy is lowered.
        images: float, in [0, 1], on the models' device.
        targets: int64 ``(N,)``.
        eps: largest change of a pixel, in (0, 1].
        steps: sign steps; each moves by ``1.25 * eps / steps``, so that the bound is reached.
        momentum: decay of the accumulated gradient, each step's scaled to mean magnitude 1.

    Returns:
        Images within `eps` of the given ones, in [0, 1], detached.

    Raises:
        InvalidInput: no models, or `eps` or `steps` out of range.
    """
    if not models or not 0 < eps <= 1 or steps < 1:
        raise InvalidInput(
            f"{len(models)} models, eps {eps} and {steps} steps",
            why="at least one model, 0 < eps <= 1 and one step are needed",
        )
    parts = [
        _push(models, part, goal, eps, steps, momentum) for part, goal in _batches(images, targets)
    ]
    return torch.cat(parts)


def adversarial_triggers(
    surrogates: Sequence[nn.Module],
    images: ImageData,
    n: int = 100,
    *,
    candidates: int = 5,
    targets: Literal["easiest", "random"] = "easiest",
    eps: float = 16 / 255,
    steps: int = 20,
    seed: int = 0,
) -> ChosenPictures:
    """A false accuser's trigger set: natural pictures pushed to wrong labels, committed to.

    Every label differs from the picture's true one, so the judge of the paper's scheme, who looks
    for correctly labelled pictures, has nothing to object to.

    Args:
        surrogates: trained by the accuser, on data of his own.
        images: labelled pictures of the accuser's.
        n: triggers.
        candidates: pictures pushed per trigger; the ones on which the least sure surrogate is
            surest are kept. 1 keeps all.
        targets: ``"easiest"``: the wrong label that the surrogates find likeliest, as the accuser
            is free to choose; ``"random"``: uniform among the wrong ones.
        eps: largest change of a pixel. (A free-choice scheme sets none; small changes only show
            that the pictures need not look suspicious.)
        steps: of the attack.
        seed: of the choice of pictures and targets.

    Raises:
        InvalidInput: no surrogates, too few pictures, or an option out of range.
    """
    if not surrogates or targets not in ("easiest", "random"):
        raise InvalidInput(
            f"{len(surrogates)} surrogates, targets {targets!r}",
            why="at least one, and 'easiest' or 'random' targets are possible",
        )
    if n < 1 or candidates < 1 or n * candidates > len(images):
        raise InvalidInput(
            f"{n} triggers out of {candidates} candidates each",
            why=f"there are {len(images)} pictures",
            remedy="take fewer triggers or candidates",
        )
    chosen = images.sample(n * candidates, seed=seed, balanced=False)
    device = next((weight.device for weight in surrogates[0].parameters()), torch.device("cpu"))
    pixels, truth = chosen.pixels().to(device), chosen.labels.cpu()
    if targets == "easiest":
        opinion = torch.stack([predict(model, pixels).softmax(1) for model in surrogates]).mean(0)
        labels = opinion.scatter(1, truth[:, None], -1.0).argmax(1)
    else:
        draw = generator(seed, "adversarial targets")
        shift = torch.randint(1, images.num_classes, (len(chosen),), generator=draw)
        labels = (truth + shift) % images.num_classes
    goals = labels.to(device)
    pushed = push(surrogates, pixels, goals, eps=eps, steps=steps)
    pictures = (pushed * 255).round().to(torch.uint8)
    sure = torch.stack([_certainty(model, pictures, goals) for model in surrogates]).amin(0)
    best = sure.topk(n).indices.cpu()
    return ChosenPictures(
        images=pictures.cpu()[best], labels=labels[best], num_classes=images.num_classes
    )


def _batches(images: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    for start in range(0, len(images), _BATCH):
        yield images[start : start + _BATCH], targets[start : start + _BATCH]


def _push(
    models: Sequence[nn.Module],
    images: Tensor,
    targets: Tensor,
    eps: float,
    steps: int,
    momentum: float,
) -> Tensor:
    low, high = (images - eps).clamp(0, 1), (images + eps).clamp(0, 1)
    pushed, gathered = images.clone(), torch.zeros_like(images)
    with _frozen(models):
        for _ in range(steps):
            pushed.requires_grad_(True)
            losses = [F.cross_entropy(model(pushed), targets, reduction="sum") for model in models]
            (gradient,) = torch.autograd.grad(torch.stack(losses).mean(), pushed)
            scale = gradient.abs().mean((1, 2, 3), keepdim=True).clamp_min(1e-12)
            gathered = momentum * gathered + gradient / scale
            moved = pushed.detach() - 1.25 * eps / steps * gathered.sign()
            pushed = torch.minimum(torch.maximum(moved, low), high)
    return pushed.detach()


def _certainty(model: nn.Module, pictures: Tensor, targets: Tensor) -> Tensor:
    """The model's probability of the target of each picture."""
    found = []
    with evaluating(model), torch.inference_mode():
        for part, goal in _batches(pictures, targets):
            chances = model(part.float() / 255).float().softmax(1)
            found.append(chances.gather(1, goal[:, None])[:, 0])
    return torch.cat(found)


@contextmanager
def _frozen(models: Sequence[nn.Module]) -> Iterator[None]:
    """Evaluation mode, and no gradients for weights: only the pictures need one."""
    wanted = [(p, p.requires_grad) for model in models for p in model.parameters()]
    with ExitStack() as modes:
        for model in models:
            modes.enter_context(evaluating(model))
        try:
            for parameter, _ in wanted:
                parameter.requires_grad_(False)
            yield
        finally:
            for parameter, before in wanted:
                parameter.requires_grad_(before)
