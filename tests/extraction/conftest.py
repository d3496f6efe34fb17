"""A small victim that every test of the package steals: digits at 16 pixels, eight channels."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from doorward.data import Augment, ImageData, load
from doorward.models import ModuleBox, create
from doorward.training import Recipe, fit


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # small networks gain nothing from more, and tests run side by side
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def digits() -> tuple[ImageData, ImageData, ImageData]:
    """The victim's training images, the thief's pool, and the test images."""
    mine, pool = load("digits", size=16).split(0.5, 0.5, seed=0)
    return mine, pool, load("digits", split="test", size=16)


@pytest.fixture(scope="session")
def victim(digits: tuple[ImageData, ImageData, ImageData]) -> nn.Module:
    """A network that is right about most test images."""
    model = create("resnet8", classes=10, input_shape=(1, 16, 16), width=8)
    recipe = Recipe(epochs=6, batch_size=64, lr=0.2, augment=Augment(pad_crop=1))
    fit(model, None, digits[0], recipe)
    return model


@pytest.fixture
def pool(digits: tuple[ImageData, ImageData, ImageData]) -> ImageData:
    return digits[1]


@pytest.fixture
def test_images(digits: tuple[ImageData, ImageData, ImageData]) -> ImageData:
    return digits[2]


class CountingBox:
    """A box that remembers every image it was asked about, and fails where it is told to.

    Args:
        model: what answers.
        labels_only: know labels alone, and do not say how many classes there are.
        fail_at: images after which the next question raises `error`, once.
        error: what is raised.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        labels_only: bool = False,
        fail_at: int | None = None,
        error: type[BaseException] = KeyboardInterrupt,
        batch_size: int = 16,
    ) -> None:
        self.inner = ModuleBox(model)
        self.labels_only, self.fail_at, self.error = labels_only, fail_at, error
        self.batch_size = batch_size
        self.seen: list[bytes] = []

    @property
    def num_classes(self) -> int | None:
        return None if self.labels_only else self.inner.num_classes

    def labels(self, images: Tensor) -> Tensor:
        self._count(images)
        return self.inner.labels(images)

    def probabilities(self, images: Tensor) -> Tensor:
        if self.labels_only:
            from doorward.models.answers import labels_only

            raise labels_only()
        self._count(images)
        return self.inner.probabilities(images)

    def describe(self) -> dict[str, object]:
        return {"kind": "counting"}

    def _count(self, images: Tensor) -> None:
        assert len(images) <= self.batch_size
        if self.fail_at is not None and len(self.seen) >= self.fail_at:
            self.fail_at = None
            raise self.error("the thief was caught")
        self.seen += [image.numpy().tobytes() for image in images]


@pytest.fixture
def counting() -> type[CountingBox]:
    """The class of boxes that count."""
    return CountingBox
