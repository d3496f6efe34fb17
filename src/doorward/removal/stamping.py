"""Unlearning triggers that a scan recovered: stamp some images of each batch, keep their labels.

::

    context.fit("unlearn", model, TrueLabels(found, share=0.2, seed=1), clean, recipe)
    recovered_success(model, held_out, found[0], draw)      # what is left of them
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from doorward.data import Batch, ImageData
from doorward.errors import InvalidInput
from doorward.models.layers import head_view
from doorward.randomness import generator
from doorward.scanning import Recovered
from doorward.scanning.measuring import held_out_success

__all__ = ["TrueLabels", "recovered_success", "require_triggers"]


class TrueLabels:
    """Cross-entropy of true labels, some images under triggers of their own.

    Args:
        found: distributions of triggers, on the training device; of several, each stamped image
            draws one.
        share: probability of each image to be stamped.
        seed: of which images, and which triggers.
        head: dotted name of the head, needed where features are compared.
        features: weight of the mean squared difference that stamping makes to what the head sees.
        answers: weight of the divergence of the answers from those of `given`.
        given: the model as it was, frozen, on the training device; sees the clean images.
    """

    def __init__(
        self,
        found: Sequence[Recovered],
        *,
        share: float,
        seed: int,
        head: str | None = None,
        features: float = 0.0,
        answers: float = 0.0,
        given: nn.Module | None = None,
    ) -> None:
        self.found, self.share, self.seed = found, share, seed
        self.head, self.features, self.answers, self.given = head, features, answers, given

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of the batch, and its parts."""
        images = self.stamped(batch.images, generator(self.seed, batch.step))
        scalars: dict[str, Tensor] = {}
        if self.features and self.head is not None:
            with torch.no_grad():
                before, _ = head_view(model, self.head, batch.images)
            after, logits = head_view(model, self.head, images)
            shift = F.mse_loss(after.float(), before.float())
            scalars["shift"] = shift.detach()
            extra = self.features * shift
        else:
            logits, extra = model(images), torch.zeros((), device=images.device)
        logits = logits.float()
        if self.answers and self.given is not None:
            with torch.no_grad():
                wanted = self.given(batch.images).float().log_softmax(1)
            drift = F.kl_div(logits.log_softmax(1), wanted, reduction="batchmean", log_target=True)
            scalars["drift"] = drift.detach()
            extra = extra + self.answers * drift
        task = F.cross_entropy(logits, batch.labels)
        accuracy = (logits.detach().argmax(1) == batch.labels).float().mean()
        return task + extra, {"accuracy": accuracy, "task": task.detach(), **scalars}

    @torch.no_grad()
    def stamped(self, images: Tensor, draw: torch.Generator) -> Tensor:
        """The images, some of them under triggers.

        Args:
            images: float (N, C, H, W) in [0, 1].
            draw: on the CPU.
        """
        chosen = torch.rand(len(images), generator=draw) < self.share
        which = torch.randint(len(self.found), (len(images),), generator=draw)
        images = images.clone()
        for number, triggers in enumerate(self.found):
            rows = (chosen & (which == number)).nonzero().flatten()
            if len(rows):
                rows = rows.to(images.device)
                images[rows] = triggers.stamp(images[rows], draw).to(images.dtype)
        return images


def recovered_success(
    model: nn.Module, clean: ImageData, triggers: Recovered, draw: torch.Generator
) -> float:
    """Share of clean images of other classes that recovered triggers send to their class.

    Args:
        model: maps float images (N, C, H, W) in [0, 1] to logits (N, K).
        clean: labelled images.
        triggers: on the model's device.
        draw: on the CPU; decides which triggers.

    Returns:
        In [0, 1]; 0 where every image is of the class already.
    """
    return held_out_success(model, triggers, clean, draw) or 0.0


def require_triggers(target: int, triggers: Recovered, clean: ImageData) -> None:
    """Refuse triggers that cannot be stamped on these images.

    Raises:
        InvalidInput: it is not recovered triggers, or of another class or shape.
    """
    if not isinstance(triggers, Recovered) or triggers.target != target:
        raise InvalidInput(
            f"what stands for class {target!r} is a {type(triggers).__name__}"
            + (f" of class {triggers.target}" if isinstance(triggers, Recovered) else ""),
            why="recovered triggers of that class are expected",
            remedy="pass the second thing that doorward.scanning.scan gives back",
        )
    if target >= clean.num_classes:
        raise InvalidInput(
            f"there is no class {target}", why=f"classes are 0..{clean.num_classes - 1}"
        )
    images = clean.pixels([0]).cpu()
    try:
        stamped = copy.deepcopy(triggers).cpu().stamp(images, generator(0, "probe"))
    except (RuntimeError, IndexError, ValueError) as error:
        raise InvalidInput(
            f"the triggers of class {target} cannot be put on images of {clean.image_shape}",
            why=f"{error}".partition("\n")[0],
            remedy="scan a model with images of the shape that is repaired",
        ) from error
    if stamped.shape != images.shape:
        raise InvalidInput(
            f"the triggers of class {target} turn images of {tuple(images.shape)} into "
            f"{tuple(stamped.shape)}",
            remedy="scan a model with images of the shape that is repaired",
        )
