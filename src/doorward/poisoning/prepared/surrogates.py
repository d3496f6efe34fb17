"""A model of the attacker's own, trained on the clean data, and steps up its loss.

>>> from doorward.models import create
>>> model = create("resnet8", classes=10, input_shape=(1, 16, 16), width=4).eval()
>>> images, labels = torch.rand(8, 1, 16, 16), torch.arange(8)
>>> moved = ascend(model, images, labels, eps=0.1, steps=2)
>>> float((moved - images).abs().max()) <= 0.1 + 1e-6
True
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from doorward.data import Augment, Batch, ImageSource
from doorward.errors import InvalidInput
from doorward.models import create, evaluating
from doorward.poisoning.procedures import Job
from doorward.randomness import generator
from doorward.training import Objective, Recipe

__all__ = ["FastAdversarial", "ascend", "surrogate"]

_SMALLEST = 16  # what the zoo takes
_BATCH = 256
_MOST_STEPS = 600


def surrogate(
    job: Job,
    source: ImageSource,
    *,
    phase: str = "surrogate",
    width: int = 16,
    epochs: float = 12,
    robust: float = 0.0,
) -> nn.Module:
    """Train a small ResNet-8 on a data set, as a stand-in for the victim.

    At most 600 steps of 128 images, so that large sets take no longer than 77,000 images.

    Args:
        job: seeds, device and training loop.
        source: what it is trained on, at least 16x16 pixels.
        phase: the name of this training.
        width: channels of its first stage.
        epochs: passes over the data, if they are no more than 600 steps.
        robust: train on one-step adversarial images within this distance (see `FastAdversarial`);
            0 for plain training.

    Returns:
        The model in evaluation mode, frozen.

    Raises:
        InvalidInput: the images are too small.
    """
    if min(source.image_shape[1:]) < _SMALLEST:
        raise InvalidInput(
            f"no surrogate can be trained on images {source.image_shape}",
            why=f"it takes {_SMALLEST} pixels or more each way",
            remedy="resize the images",
        )
    seed = job.seed_of(phase)
    model = create(
        "resnet8",
        classes=source.num_classes,
        input_shape=source.image_shape,
        seed=seed,
        width=width,
    )
    recipe = Recipe(
        epochs=epochs,
        max_steps=_MOST_STEPS,
        batch_size=128,
        lr=0.2,
        weight_decay=5e-4,
        label_smoothing=0.0 if robust else 0.1,
        augment=Augment(pad_crop=max(1, source.image_shape[1] // 16)),
        seed=seed,
    )
    objective: Objective | None = FastAdversarial(robust, seed=seed) if robust else None
    job.fit(phase, model, objective, source, recipe)
    return model.requires_grad_(False).eval()


class FastAdversarial:
    """Cross-entropy on images moved one step up the loss, from a random start.

    Wong, Rice, Kolter 2020, *Fast Is Better than Free: Revisiting Adversarial Training*: uniform
    start within `eps`, one sign step of ``1.25 eps``, projected back.

    Args:
        eps: largest change of a pixel, in (0, 1].
        seed: of the starts.
    """

    def __init__(self, eps: float, *, seed: int) -> None:
        self.eps, self.seed = eps, seed

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """One step's loss."""
        draw = generator(self.seed, "adversarial start", batch.step)
        with evaluating(model):  # so that only the images trained on enter BatchNorm's statistics
            moved = _ascended(
                model, batch.images, batch.labels, self.eps, 1, 1.25 * self.eps, "linf", draw
            )
        logits = model(moved)
        right = (logits.detach().argmax(1) == batch.labels).float().mean()
        return F.cross_entropy(logits.float(), batch.labels), {"accuracy": right}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.eps}, seed={self.seed})"


def ascend(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    steps: int = 20,
    step: float | None = None,
    norm: str = "linf",
    draw: Generator | None = None,
) -> Tensor:
    """Projected gradient ascent on the cross-entropy (PGD, Madry et al. 2018).

    Args:
        model: images to logits, in evaluation mode.
        images: float (N, C, H, W) in [0, 1], on the model's device.
        labels: int64 (N,), their true classes.
        eps: radius of the ball, above 0: the largest change of a pixel ("linf") or of an image's
            Euclidean norm ("l2").
        steps: at least 1.
        step: length of a step; ``1.5 eps / steps`` if None, as in Turner et al. 2019.
        norm: ``"linf"`` or ``"l2"``.
        draw: on the CPU: start at a random point of the ball ("linf": uniform; "l2": uniform in
            direction, and in the radius); None: at the images.

    Returns:
        Images within `eps` of the given ones, in [0, 1], detached.

    Raises:
        InvalidInput: a number is out of range.

    >>> head = nn.Linear(2, 2, bias=False)
    >>> _ = head.weight.data.copy_(torch.tensor([[1.0, -1.0], [0.0, 0.0]]))
    >>> line = nn.Sequential(nn.Flatten(), head)
    >>> ascend(line, torch.full((1, 1, 1, 2), 0.5), torch.tensor([0]), eps=0.2, steps=1, step=0.1)
    tensor([[[[0.4000, 0.6000]]]])
    """
    step = 1.5 * eps / max(steps, 1) if step is None else step
    if not (eps > 0 and step > 0) or steps < 1 or norm not in ("linf", "l2"):
        raise InvalidInput(
            f"eps {eps}, {steps} steps of {step} in norm {norm!r}",
            why="positive numbers and the norm 'linf' or 'l2' are needed",
        )
    parts = [
        _ascended(model, some, theirs, eps, steps, step, norm, draw)
        for some, theirs in zip(
            torch.split(images, _BATCH), torch.split(labels, _BATCH), strict=True
        )
    ]
    return torch.cat(parts) if parts else images.clone()


def _ascended(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    eps: float,
    steps: int,
    step: float,
    norm: str,
    draw: Generator | None,
) -> Tensor:
    moved = images
    if draw is not None:
        moved = (images + _start(images, eps, norm, draw)).clamp(0, 1)
    for _ in range(steps):
        point = moved.detach().requires_grad_(True)
        with torch.enable_grad():
            loss = F.cross_entropy(model(point).float(), labels, reduction="sum")
        (slope,) = torch.autograd.grad(loss, point)
        moved = moved + step * (slope.sign() if norm == "linf" else _unit(slope))
        change = moved - images
        if norm == "linf":
            change = change.clamp(-eps, eps)
        else:
            change = change * (eps / _length(change).clamp_min(eps))
        moved = (images + change).clamp(0, 1).detach()
    return moved


def _start(images: Tensor, eps: float, norm: str, draw: Generator) -> Tensor:
    if norm == "linf":
        noise = torch.rand(images.shape, generator=draw) * 2 - 1
        return eps * noise.to(images)
    direction = _unit(torch.randn(images.shape, generator=draw))
    radius = torch.rand(len(images), 1, 1, 1, generator=draw)
    return eps * (direction * radius).to(images)


def _length(change: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(change, dim=(1, 2, 3), keepdim=True)
    return length


def _unit(change: Tensor) -> Tensor:
    return change / _length(change).clamp_min(1e-12)
