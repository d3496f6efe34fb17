"""Training a substitute: objectives that imitate answers instead of learning labels.

Answers that were asked for once, and are looked up by the position of each image:

>>> import torch
>>> from torch import nn
>>> from doorward.data import load
>>> from doorward.extraction.answers import answers_of
>>> from doorward.training import Recipe, fit
>>> digits = load("digits").sample(64, seed=0)
>>> victim = nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(16, 10))
>>> copy = nn.Sequential(nn.Flatten(), nn.Linear(1024, 10))
>>> result = fit(copy, Distillation(answers_of(victim, digits)), digits, Recipe(max_steps=4))
>>> sorted(result.final)
['agreement', 'epoch', 'loss', 'lr', 'seconds', 'step']

Or a teacher at hand, which answers every augmented image anew: `LiveDistillation`.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from doorward.data import Batch
from doorward.errors import InvalidInput

__all__ = ["Distillation", "LiveDistillation", "imitation_loss"]


class Distillation:
    """Imitate given answers: KL divergence to probabilities, cross-entropy to labels.

    Args:
        answers: one per image of the training set, in its order: float ``(N, K)``, non-negative,
            or int64 ``(N,)`` of labels. Rows that sum to less than 1 (cut or rounded answers)
            count as they are, neither renormalised nor weighted.
        temperature: T; both sides are softened to ``p**(1/T)`` and the loss is scaled by T squared
            (Hinton et al. 2015, arXiv:1503.02531). Without effect on labels.

    Raises:
        InvalidInput: the answers are of no such form, or T is not positive.

    The soft-target cross-entropy of KnockoffNets (Orekondy et al. 2019) has the same gradient; the
    divergence is logged because it is 0 for a perfect copy.
    """

    def __init__(self, answers: Tensor, *, temperature: float = 1.0) -> None:
        _check_answers(answers)
        _check_temperature(temperature)
        self.temperature = temperature
        self._answers = answers.detach().float() if answers.is_floating_point() else answers
        self._digest = _digest(self._answers)

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and the share of the batch where the substitute's class is the answer's."""
        self._answers = self._answers.to(batch.images.device)  # once; then it is there
        answers = self._answers[batch.indices]
        logits = model(batch.images).float()
        return imitation_loss(logits, answers, temperature=self.temperature)

    def state_dict(self) -> dict[str, Tensor]:
        """For checkpoints: which answers these are."""
        return {"answers": self._digest}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Refuse to resume a training on other answers."""
        _require_same(state["answers"], self._digest, "answers")

    def __repr__(self) -> str:
        kind = "soft" if self._answers.is_floating_point() else "labels"
        return (
            f"{type(self).__name__}({len(self._answers)} {kind}, temperature={self.temperature:g})"
        )


class LiveDistillation:
    """Imitate a teacher on the images as they are augmented (Hinton et al. 2015).

    The loss is ``alpha * T^2 * KL(teacher_T || student_T) + (1 - alpha) * CE(student, labels)``.
    The defaults, T = 3 and alpha = 1 (no labels are needed), are those of the systematisation
    study of Lukas et al. (2022), "SoK: How Robust is Image Classification Deep Neural Network
    Watermarking?"

    Args:
        teacher: images to logits; copied, so that it is neither changed nor followed.
        temperature: T > 0.
        alpha: weight of the imitation, in [0, 1].

    Raises:
        InvalidInput: T or alpha is out of range.

    >>> LiveDistillation(nn.Flatten())
    LiveDistillation(temperature=3, alpha=1)
    """

    def __init__(self, teacher: nn.Module, *, temperature: float = 3.0, alpha: float = 1.0) -> None:
        _check_temperature(temperature)
        if not 0 <= alpha <= 1:
            raise InvalidInput(f"alpha {alpha} is not in [0, 1]")
        self.temperature, self.alpha = temperature, alpha
        self._teacher = copy.deepcopy(teacher).eval().requires_grad_(False)
        # Hashed before any device or memory format is changed.
        self._digest = _digest(*self._teacher.state_dict().values())

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and the share of the batch where student and teacher agree."""
        self._teacher.to(batch.images.device)
        with torch.no_grad():
            answers = self._teacher(batch.images).float()
        logits = model(batch.images).float()
        _check_width(logits, answers)
        wanted = (answers / self.temperature).softmax(1)
        given = (logits / self.temperature).log_softmax(1)
        loss = F.kl_div(given, wanted, reduction="batchmean") * (self.alpha * self.temperature**2)
        if self.alpha < 1:
            loss = loss + (1 - self.alpha) * F.cross_entropy(logits, batch.labels)
        agreement = (logits.detach().argmax(1) == answers.argmax(1)).float().mean()
        return loss, {"agreement": agreement}

    def state_dict(self) -> dict[str, Tensor]:
        """For checkpoints: which teacher this is."""
        return {"teacher": self._digest}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Refuse to resume a training under another teacher."""
        _require_same(state["teacher"], self._digest, "teacher")

    def __repr__(self) -> str:
        return f"{type(self).__name__}(temperature={self.temperature:g}, alpha={self.alpha:g})"


def imitation_loss(
    logits: Tensor, answers: Tensor, *, temperature: float = 1.0
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of `Distillation` on one batch, for objectives that add to it.

    Args:
        logits: of the substitute, float ``(B, K)``.
        answers: float ``(B, K)`` or int64 ``(B,)``, on the same device.
        temperature: T.

    Returns:
        Loss and the scalar ``agreement``.

    >>> answers = torch.tensor([[0.25, 0.75]])
    >>> loss, scalars = imitation_loss(answers.log(), answers)
    >>> abs(loss.item()) < 1e-6, scalars["agreement"].item()
    (True, 1.0)
    """
    if not answers.is_floating_point():
        agreement = (logits.detach().argmax(1) == answers).float().mean()
        return F.cross_entropy(logits, answers), {"agreement": agreement}
    _check_width(logits, answers)
    agreement = (logits.detach().argmax(1) == answers.argmax(1)).float().mean()
    wanted = answers
    if temperature != 1:
        softened = answers ** (1 / temperature)
        # The mass that a cut or rounded answer has lost stays lost.
        total = softened.sum(1, keepdim=True).clamp_min(torch.finfo(softened.dtype).tiny)
        wanted = softened / total * answers.sum(1, keepdim=True)
    given = (logits / temperature).log_softmax(1)
    loss = F.kl_div(given, wanted, reduction="batchmean") * temperature**2
    return loss, {"agreement": agreement}


def _check_answers(answers: Tensor) -> None:
    soft = answers.ndim == 2 and answers.is_floating_point()
    hard = answers.ndim == 1 and answers.dtype == torch.int64
    if not (soft or hard) or not len(answers):
        raise InvalidInput(
            f"the answers are {answers.dtype} of shape {tuple(answers.shape)}",
            why="probabilities (N, K) or int64 labels (N,) are needed, one per training image",
        )
    if not bool((answers >= 0).all()) or not bool(answers.isfinite().all()):
        raise InvalidInput(
            "the answers hold negative or non-finite numbers",
            why="they are probabilities or labels",
            remedy="take the softmax of logits first",
        )


def _check_temperature(temperature: float) -> None:
    if not 0 < temperature < float("inf"):
        raise InvalidInput(f"temperature {temperature} is not positive")


def _check_width(logits: Tensor, answers: Tensor) -> None:
    if logits.shape != answers.shape:
        raise InvalidInput(
            f"the student has {logits.shape[1]} classes",
            why=f"the answers are for {answers.shape[1]}",
            remedy="make the student with as many classes",
        )


def _digest(*tensors: Tensor) -> Tensor:
    state = hashlib.sha256()
    for tensor in tensors:
        state.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return torch.tensor(list(state.digest()), dtype=torch.uint8)


def _require_same(before: Tensor, now: Tensor, what: str) -> None:
    if not torch.equal(before.cpu(), now):
        raise InvalidInput(
            f"the checkpoint belongs to a training with another {what}"
            if what == "teacher"
            else f"the checkpoint belongs to a training on other {what}",
            remedy="give the same again, or start over with resume=False",
        )
