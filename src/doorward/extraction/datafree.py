"""Data-free model extraction: a generator draws the questions; no image is needed.

>>> DataFree().questions_per_cycle()      # 5 student steps, 1 generator step, 256 images each
1792

Truong, Maini, Walls, Papernot (CVPR 2021), "Data-Free Model Extraction".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from doorward.data import Batch, ImageSource
from doorward.extraction.base import EXTRACTIONS, Extraction, Theft
from doorward.extraction.transfer import TransferSet
from doorward.models import evaluating
from doorward.randomness import derive_seed, generator
from doorward.records import STRICT
from doorward.training import FitResult, Recipe
from doorward.training.optimizers import load_optimizer, optimizer_state

__all__ = ["DataFree", "DataFreeObjective", "Generator"]

_MILESTONES, _GAMMA = (0.1, 0.3, 0.5), 0.3
_EPOCH = 100  # steps between two entries of the history, and between two checkpoints


@EXTRACTIONS.register("dfme", paper="Truong et al. 2021", pool=False, chooses=False)
@dataclass(frozen=True, kw_only=True, config=STRICT)
class DataFree(Extraction):
    """A generator looks for images on which victim and substitute differ; both learn from them.

    Reproduced: the alternation, the L1 loss on centred log-probabilities, and the generator's
    gradient from forward differences of the victim's answers along random directions. Ours: the
    substitute's share of that gradient is exact (it is at hand), only the victim's is estimated.
    Of the pool nothing but the image shape is used. The theft's recipe is not used, apart from its
    seed and precision: batch size and rates are the method's own. Budgets in the paper are in the
    millions of questions.

    Args:
        batch_size: images per step.
        latent: length of the generator's input.
        student_steps: per generator step.
        directions: per image, m; each costs a question.
        step: of the forward difference, in standard deviations of its direction, before the last
            tanh (the authors': 1e-3 along unit vectors, which asks for answers of many digits).
        student_lr: of SGD with momentum 0.9 and weight decay 5e-4, multiplied by 0.3 at 10, 30 and
            50 % of the run.
        generator_lr: of Adam, with the same schedule.
    """

    needs: ClassVar[Literal["any", "soft"]] = "soft"

    batch_size: Annotated[int, Field(ge=2)] = 256
    latent: Annotated[int, Field(ge=1)] = 256
    student_steps: Annotated[int, Field(ge=1)] = 5
    directions: Annotated[int, Field(ge=1)] = 1
    step: Annotated[float, Field(gt=0, le=0.5)] = 0.01
    student_lr: Annotated[float, Field(gt=0)] = 0.1
    generator_lr: Annotated[float, Field(gt=0)] = 5e-4

    def questions_per_cycle(self) -> int:
        """Questions of one generator step and the student steps that follow it."""
        return self.batch_size * (1 + self.directions + self.student_steps)

    def run(self, theft: Theft) -> FitResult:
        """Alternate until the next cycle would exceed the budget."""
        cycle = self.questions_per_cycle()
        theft.require_budget(cycle + 1, "one generator step and the student's after it")
        # One question may have gone to the number of classes.
        steps = (theft.victim.budget - 1) // cycle * self.student_steps
        recipe = Recipe(
            epochs=steps / min(steps, _EPOCH),
            batch_size=self.batch_size,
            lr=self.student_lr,
            nesterov=False,
            weight_decay=5e-4,
            schedule="step",
            milestones=_MILESTONES,
            gamma=_GAMMA,
            precision=theft.recipe.precision,
            seed=theft.recipe.seed,
        )
        blanks = _Blanks(min(steps, _EPOCH) * self.batch_size, theft.pool, theft.classes)
        result = theft.train(
            TransferSet(blanks, blanks.labels),
            recipe=recipe,
            objective=lambda _: DataFreeObjective(self, theft, steps),
        )
        theft.transfer_images = steps * self.batch_size
        return result


class DataFreeObjective:
    """One student step; before every `student_steps`-th, a step of the generator.

    Args:
        method: its numbers.
        theft: whose victim is asked.
        steps: of the whole run, for the generator's schedule.
    """

    def __init__(self, method: DataFree, theft: Theft, steps: int) -> None:
        self.method, self.victim, self.steps = method, theft.victim, steps
        self.seed = theft.seed
        self.generator = Generator(method.latent, theft.pool.image_shape, seed=theft.seed)
        self.optimizer = torch.optim.Adam(self.generator.parameters(), lr=method.generator_lr)

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """L1 distance of the student's logits to the victim's centred log-probabilities."""
        device = batch.images.device
        self.generator.to(device).train()
        with torch.autocast(device.type, enabled=False):
            if batch.step % self.method.student_steps == 0:
                self._improve(model, batch.step, device)
            with torch.no_grad():
                images = _pixels(self.generator(self._latents(batch.step, "student", device)))
        wanted = self._ask(images)
        logits = model(images).float()
        agreement = (logits.detach().argmax(1) == wanted.argmax(1)).float().mean()
        return F.l1_loss(logits, wanted), {"agreement": agreement}

    def _improve(self, model: nn.Module, step: int, device: torch.device) -> None:
        """Move the generator towards images on which victim and student differ."""
        for group in self.optimizer.param_groups:
            passed = sum(step >= share * self.steps for share in _MILESTONES)
            group["lr"] = self.method.generator_lr * _GAMMA**passed
        raw = self.generator(self._latents(step, "generator", device))
        point = raw.detach().requires_grad_(True)
        victims = self._ask(_pixels(raw))
        with evaluating(model):
            gaps = model(_pixels(point)).float() - victims
            (slope,) = torch.autograd.grad(gaps.abs().mean(), point)
        signs = gaps.detach().sign() / gaps.numel()
        draw = generator(self.seed, "directions", step)
        for _ in range(self.method.directions):
            direction = torch.randn(raw.shape, generator=draw).to(device)
            moved = self._ask(_pixels(raw + self.method.step * direction))
            change = (moved - victims) / self.method.step
            # d|student - victim| / d victim is minus the sign of the gap.
            along = -(signs * change).sum(1).view(-1, 1, 1, 1) * direction
            slope = slope + along / self.method.directions
        self.optimizer.zero_grad()
        raw.backward(-slope)  # uphill
        self.optimizer.step()

    def _ask(self, images: Tensor) -> Tensor:
        """The victim's log-probabilities, centred: logits up to what softmax forgets."""
        logs = self.victim.ask(images).clamp_min(1e-7).log()
        return (logs - logs.mean(1, keepdim=True)).to(images.device)

    def _latents(self, step: int, purpose: str, device: torch.device) -> Tensor:
        draw = generator(self.seed, "latents", purpose, step)
        return torch.randn(self.method.batch_size, self.method.latent, generator=draw).to(device)

    def state_dict(self) -> dict[str, Any]:
        """Generator and its optimiser."""
        return {
            "generator": self.generator.state_dict(),
            "optimizer": optimizer_state(self.optimizer),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.generator.load_state_dict(state["generator"])
        load_optimizer(self.optimizer, state["optimizer"])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.method}, seed={self.seed})"


class Generator(nn.Module):
    """Latents ``(N, D)`` to raw images ``(N, C, H, W)``; ``(tanh + 1) / 2`` makes them pixels.

    Args:
        latent: D.
        image_shape: ``(C, H, W)``.
        width: channels inside.
        seed: of the weights.
    """

    def __init__(
        self, latent: int, image_shape: tuple[int, int, int], *, width: int = 64, seed: int = 0
    ) -> None:
        super().__init__()
        channels, height, width_px = image_shape
        self.size, self.start = (height, width_px), (-(-height // 4), -(-width_px // 4))
        with torch.random.fork_rng([]):  # layers draw their weights from the global generator
            torch.manual_seed(derive_seed(seed, "generator weights"))
            self.first = nn.Linear(latent, 2 * width * self.start[0] * self.start[1])
            self.layers = nn.Sequential(
                nn.BatchNorm2d(2 * width),
                nn.Upsample(scale_factor=2),
                nn.Conv2d(2 * width, 2 * width, 3, padding=1, bias=False),
                nn.BatchNorm2d(2 * width),
                nn.LeakyReLU(0.2),
                nn.Upsample(scale_factor=2),
                nn.Conv2d(2 * width, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.LeakyReLU(0.2),
                nn.Conv2d(width, channels, 3, padding=1),
                nn.BatchNorm2d(channels, affine=False),
            )

    def forward(self, latents: Tensor) -> Tensor:
        """Raw images."""
        rows = self.first(latents).view(len(latents), -1, *self.start)
        images: Tensor = self.layers(rows)
        return images[:, :, : self.size[0], : self.size[1]]


def _pixels(raw: Tensor) -> Tensor:
    return (raw.tanh() + 1) / 2


class _Blanks:
    """As many black images as the loop needs to count its steps by; they take no memory."""

    def __init__(self, count: int, pool: ImageSource, classes: tuple[str, ...]) -> None:
        self.labels = torch.zeros(1, dtype=torch.int64).expand(count)
        self.classes, self.num_classes, self.name = classes, len(classes), "generated"
        self.image_shape = pool.image_shape

    def __len__(self) -> int:
        return len(self.labels)

    def fetch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Black images."""
        black = torch.zeros(1, *self.image_shape, dtype=torch.uint8)
        return black.expand(len(indices), -1, -1, -1), self.labels[indices.cpu()]
