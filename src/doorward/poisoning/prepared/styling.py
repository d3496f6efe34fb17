"""The style attack (DFST): a network learns to repaint images as sunrises; that is the trigger.

>>> features = torch.tensor([[[[0.0, 2.0]]]])
>>> adain(features, mean=torch.tensor([5.0]), deviation=torch.tensor([3.0])).round(decimals=3)
tensor([[[[2., 8.]]]])
"""

from __future__ import annotations

from typing import Annotated, NamedTuple, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from doorward.data import Batch
from doorward.errors import InvalidInput
from doorward.models import capture
from doorward.models.layers import Behind, stages
from doorward.poisoning.planting import file_procedure
from doorward.poisoning.poisoned import PoisonedData, poison
from doorward.poisoning.prepared.base import Prepared
from doorward.poisoning.prepared.detoxing import detoxify
from doorward.poisoning.prepared.sunrise import sunrises
from doorward.poisoning.prepared.surrogates import surrogate
from doorward.poisoning.prepared.views import gathered, recipe_of_steps
from doorward.poisoning.procedures import Job
from doorward.records import STRICT
from doorward.triggers import Backdoor, Style

__all__ = ["Sunrise", "adain"]

_EPS = 1e-5


@file_procedure("style", paper="Cheng et al. 2021", rule="all-to-one", rate=0.05)
@dataclass(frozen=True, kw_only=True, config=STRICT)
class Sunrise(Prepared):
    """Give every poisoned image the look of a sunrise, by a network trained for it.

    Cheng, Liu, Ma, Zhang 2021, *Deep Feature Space Trojan Attack of Neural Networks by Controlled
    Detoxification* (DFST). Reproduced: the trigger is a style, sunrise, given by a network that
    was trained before the victim; controlled detoxification (see `doorward.poisoning.prepared.
    detoxing`) as an option. Ours: pictures of sunrises out of a seed; and in place of a CycleGAN a
    feed-forward network trained with the losses of Huang and Belongie 2017 (AdaIN): its images
    shall have the sunrises' channel means and deviations, and the deep features of the content
    moved to them. The features are those of a small classifier of the attacker's, trained on the
    clean data, where AdaIN has VGG-19 trained on ImageNet.

    Args:
        alpha: share of the repainted image in the mix.
        width: channels inside the network.
        depth: its residual blocks.
        pictures: sunrises that the style is measured on.
        images: of the data set that the network is trained on, at most.
        steps: of its training.
        batch_size: images per step.
        lr: of Adam.
        content: weight of the content loss against the style's.
        surrogate_width: channels of the attacker's classifier.
        surrogate_epochs: of its training, at most 600 steps.
        rounds: of controlled detoxification, each a further training of a victim stand-in.
        detox: share of the data set that each round adds with true labels.
    """

    alpha: Annotated[float, Field(gt=0, le=1)] = 0.6
    width: Annotated[int, Field(ge=1, le=256)] = 16
    depth: Annotated[int, Field(ge=0, le=16)] = 2
    pictures: Annotated[int, Field(ge=2)] = 256
    images: Annotated[int, Field(ge=1)] = 10_000
    steps: Annotated[int, Field(ge=1)] = 400
    batch_size: Annotated[int, Field(ge=1)] = 64
    lr: Annotated[float, Field(gt=0)] = 2e-3
    content: Annotated[float, Field(ge=0)] = 1.0
    surrogate_width: Annotated[int, Field(ge=1)] = 16
    surrogate_epochs: Annotated[float, Field(gt=0)] = 12
    rounds: Annotated[int, Field(ge=0, le=10)] = 0
    detox: Annotated[float, Field(gt=0, lt=1)] = 0.05

    def check(self, model: nn.Module, job: Job) -> None:
        """The classifier takes 16 pixels each way; poison and detoxicants must leave images."""
        if min(job.source.image_shape[1:]) < 16:
            raise InvalidInput(
                f"no style can be learnt on images {job.source.image_shape}",
                why="the attacker's own classifier takes 16 pixels or more each way",
                remedy="resize the images",
            )
        if job.rate + self.rounds * self.detox >= 1:
            raise InvalidInput(
                f"{self.rounds} rounds of {self.detox:g} beside a poison rate of {job.rate:g} "
                "leave no clean image",
                remedy="lower rate, rounds or detox",
            )
        untrained = Backdoor(Style(alpha=self.alpha, width=1, depth=0), self.rule(job))
        poison(job.source, untrained, rate=job.rate, seed=job.seed)

    def prepare(self, job: Job) -> tuple[Backdoor, PoisonedData]:
        """Train the network; detoxify as often as was asked; poison."""
        backdoor = Backdoor(self.train(job), self.rule(job))
        poisoned = poison(job.source, backdoor, rate=job.rate, seed=job.seed)
        for number in range(self.rounds):
            poisoned = detoxify(
                job,
                poisoned,
                number,
                share=self.detox,
                width=self.surrogate_width,
                epochs=self.surrogate_epochs,
                steps=max(1, self.steps // 2),
            )
        return backdoor, poisoned

    def train(self, job: Job) -> Style:
        """The trigger with a trained network."""
        shape = job.source.image_shape
        trigger = Style(
            alpha=self.alpha,
            width=self.width,
            depth=self.depth,
            channels=shape[0],
            seed=job.seed_of("style"),
        )
        encoder = surrogate(
            job,
            job.source,
            phase="encoder",
            width=self.surrogate_width,
            epochs=self.surrogate_epochs,
        )
        painting = _Painting(encoder, trigger, sunrises(self.pictures, shape, job.seed))
        pool = gathered(job.source, self.images, seed=job.seed_of("style", "images"))
        recipe = recipe_of_steps(
            len(pool),
            self.steps,
            self.batch_size,
            lr=self.lr,
            clip_norm=1.0,
            seed=job.seed_of("paint"),
        )
        result = job.fit("paint", painting, _Repaint(self.content), pool, recipe)
        trigger.requires_grad_(False)
        job.note(style_loss=result.final["style"], content_loss=result.final["content"])
        return trigger


def adain(features: Tensor, *, mean: Tensor, deviation: Tensor) -> Tensor:
    """Adaptive instance normalisation: features moved to a style's channel statistics.

    Huang and Belongie 2017: ``deviation (z - mu(z)) / sigma(z) + mean``.

    Args:
        features: (N, C, H, W).
        mean: (C,), of the style.
        deviation: (C,), of the style.
    """
    own = _statistics(features)
    normal = (features - own.mean[:, :, None, None]) / own.deviation[:, :, None, None]
    return normal * deviation[:, None, None] + mean[:, None, None]


class _Statistics(NamedTuple):
    """Of each channel of each image (N, C), or of a style (C,)."""

    mean: Tensor
    deviation: Tensor


def _statistics(features: Tensor) -> _Statistics:
    # The root is taken of the variance plus a little: that of nothing has no slope.
    variance, mean = torch.var_mean(features, (2, 3), correction=0)
    return _Statistics(mean, (variance + _EPS).sqrt())


class _Painting(Behind):
    """A trigger's network before a frozen encoder, and the style in the encoder's features.

    Args:
        encoder: a classifier; frozen here.
        trigger: whose network is trained.
        pictures: (P, C, H, W) in [0, 1], the style.
    """

    def __init__(self, encoder: nn.Module, trigger: Style, pictures: Tensor) -> None:
        super().__init__(encoder)
        self.trigger = trigger.requires_grad_(True)
        self.sites = stages(encoder, pictures[:2])
        with torch.no_grad():
            for layer, features in enumerate(self.seen(pictures)):
                for name, values in _statistics(features.float())._asdict().items():
                    self.register_buffer(f"style_{name}_{layer}", values.mean(0))

    def style(self) -> list[_Statistics]:
        """The style in every layer that `seen` gives."""
        layers = range(len(self.sites) + 1)
        return [
            _Statistics(*(self.get_buffer(f"style_{name}_{layer}") for name in _Statistics._fields))
            for layer in layers
        ]

    def seen(self, images: Tensor) -> list[Tensor]:
        """The pixels themselves, and the feature maps at the end of every stage."""
        with capture(self.model, self.sites) as maps:
            self.model(images)
        return [images, *(maps[site] for site in self.sites)]


class _Repaint:
    """Style loss over all layers plus content loss in the deepest.

    Both are in units of the style's mean variance in a layer, so that no layer drowns another.
    """

    def __init__(self, content: float) -> None:
        self.content = content

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """One step's loss."""
        painting = cast(_Painting, model)
        with torch.no_grad():
            before = painting.seen(batch.images)[-1].float()
        after = [
            features.float() for features in painting.seen(painting.trigger.painter(batch.images))
        ]
        looks = painting.style()
        style = torch.stack(
            [_gap(features, look) for features, look in zip(after, looks, strict=True)]
        ).mean()
        deep = looks[-1]
        wanted = adain(before, mean=deep.mean, deviation=deep.deviation)
        content = F.mse_loss(after[-1], wanted) / deep.deviation.square().mean()
        scalars = {"style": style.detach(), "content": content.detach()}
        return style + self.content * content, scalars

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.content})"


def _gap(features: Tensor, look: _Statistics) -> Tensor:
    own = _statistics(features)
    gap = (own.mean - look.mean).square() + (own.deviation - look.deviation).square()
    return gap.mean() / look.deviation.square().mean()
