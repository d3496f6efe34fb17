"""The attack on pairs: aims, images by class, what is minimised, budgets, steps, one by one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from doorward.data import ImageData, load
from doorward.errors import InvalidInput, ModelUnsuitable
from doorward.hardening import (
    Aims,
    PairAttack,
    Patches,
    Pervasive,
    Settings,
    Space,
    Stepper,
    attack_pairs,
)
from doorward.hardening.measures import Gauges, Perceptual, dissimilarity, pixel
from doorward.hardening.pool import Pool
from doorward.hardening.searching import led
from doorward.metrics import ssim
from doorward.models import create

CPU = torch.device("cpu")


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load("digits").sample(200, seed=0).resized(8)


@pytest.fixture(scope="module")
def means(digits: ImageData) -> nn.Module:
    """Nearest class mean of digits of 8x8, which is linear; nothing is trained."""
    x = digits.pixels().flatten(1)
    centres = torch.stack([x[digits.labels == k].mean(0) for k in range(10)])
    linear = nn.Linear(64, 10)
    linear.weight.data, linear.bias.data = 8 * centres, -4 * centres.square().sum(1)
    return nn.Sequential(nn.Flatten(), linear)


def quick(**changes: Any) -> Settings:
    numbers = {"epochs": 4, "images": 8, "batch_size": 4, "precision": "fp32", **changes}
    return Settings.from_dict(numbers)


def test_led_by_hand() -> None:
    """Two classes of logits (2, 0): towards 1 costs log(1 + e^2), away from 0 as much."""
    logits = torch.tensor([2.0, 0.0]).expand(2, 1, 2)
    result = led(logits, torch.tensor([[0], [0]]), torch.tensor([1, -1]))
    expected = torch.tensor([2.0]).exp().add(1).log()
    torch.testing.assert_close(result.loss[:, 0], expected.expand(2))
    assert result.hits.tolist() == [[0.0], [0.0]]
    firm = led(logits, torch.tensor([[0], [0]]), torch.tensor([1, -1]), 0.5)
    assert firm.loss.tolist() == [[2.5], [2.5]]
    arrived = led(logits.flip(2), torch.tensor([[0], [0]]), torch.tensor([1, -1]), 0.5)
    assert arrived.loss.tolist() == [[0.0], [0.0]]
    turned = led(logits.flip(2), torch.tensor([[0], [0]]), torch.tensor([1, -1]))
    assert turned.hits.tolist() == [[1.0], [1.0]]


def test_a_pool_shows_every_row_its_own_class(digits: ImageData) -> None:
    pool = Pool.of(digits, 7, CPU, draw())
    aims = Aims.of([(3, 5), (3, 7), (None, 2), (8, None), (None, None)], 10)
    shown = pool.shown(aims, torch.tensor([0, 4, 5]))
    assert shown.images.shape == (5, 3, 1, 8, 8)
    assert len(shown.distinct) == 4  # the first two look at the same images
    assert shown.labels[:2].unique().tolist() == [3]
    assert 2 not in shown.labels[2]
    assert shown.labels[3].unique().tolist() == [8]
    for image, label in zip(shown.images.flatten(0, 1), shown.labels.flatten(), strict=True):
        same = (digits.pixels() == image).flatten(1).all(1).nonzero().flatten()
        assert int(label) in digits.labels[same].tolist()


def test_missing_images_do_not_count() -> None:
    images = torch.arange(6, dtype=torch.uint8).mul(40).view(6, 1, 1, 1)
    data = ImageData(images, torch.tensor([0, 0, 0, 0, 1, 1]), ("a", "b"))
    pool = Pool.of(data, 4, CPU, draw())
    shown = pool.shown(Aims.of("pairs", 2), torch.arange(4))
    assert shown.counted.sum(1).tolist() == [4.0, 2.0]
    values = torch.arange(4.0).expand(2, -1)
    assert shown.mean(values).tolist() == [1.5, 0.5]


def test_measures_by_hand() -> None:
    x = torch.rand(2, 3, 3, 12, 12, generator=draw())
    y = (x + 0.1).clamp(0, 1)
    norms = (y - x).flatten(2).norm(dim=2)
    torch.testing.assert_close(pixel(x, y), norms)
    assert pixel(x, x).max() <= 1e-6
    expected = 1 - ssim(x.flatten(0, 1), y.flatten(0, 1)).view(2, 3)
    torch.testing.assert_close(dissimilarity(x, y), expected)
    leaf = x.clone().requires_grad_()
    pixel(x, leaf).sum().backward()
    assert torch.equal(leaf.grad, torch.zeros_like(x))  # type: ignore[arg-type]


def test_perceptual_distance_is_of_normalised_maps(digits: ImageData) -> None:
    model = create("resnet8", classes=10, input_shape=(1, 16, 16), width=4).eval()
    pool = Pool.of(digits.resized(16), 3, CPU, draw())
    shown = pool.shown(Aims.of([(1, 2), (1, 3), (4, 2)], 10), torch.arange(3))
    perceptual = Perceptual(model, shown.distinct[0])
    assert len(perceptual.sites) == 3
    with torch.no_grad():
        assert float(perceptual.distance(shown, shown.images).abs().max()) < 1e-9
        other = 1 - shown.images
        value = perceptual.distance(shown, other)
        before = perceptual.maps(shown.images[2])
        after = perceptual.maps(other[2])
        parts = [(a - b).square().sum(2).mean(1) for a, b in zip(before, after, strict=True)]
    torch.testing.assert_close(value[2], sum(parts) / 3, atol=1e-5, rtol=1e-4)  # type: ignore[arg-type]


@pytest.mark.parametrize("families", ["patch", ("additive", "flow", "kernel", "colour")])
def test_many_pairs_at_once_are_each_alone(
    families: Any, digits: ImageData, means: nn.Module
) -> None:
    kind = "patch" if families == "patch" else "pixel"
    pairs = [(0, 1), (3, 5), (9, 4)]
    settings = quick(shrink=kind, wanted=0.2, lr=0.1)
    together = attack_pairs(means, digits, pairs, families=families, settings=settings, starts=2)
    for row, (pair, start) in enumerate(
        zip(together.aims.pairs, together.aims.starts.tolist(), strict=True)
    ):
        if start == 1:
            continue
        alone = attack_pairs(means, digits, [pair], families=families, settings=settings)
        x = digits.pixels([0, 1])
        torch.testing.assert_close(alone.apply(0, x), together.apply(row, x), atol=2e-4, rtol=0)
        torch.testing.assert_close(alone.success[0], together.success[row])
    few = quick(shrink=kind, wanted=0.2, lr=0.1, images_at_once=8)  # two rows at a time
    grouped = attack_pairs(means, digits, pairs, families=families, settings=few, starts=2)
    for name, values in together.measures.items():
        torch.testing.assert_close(grouped.measures[name], values, atol=1e-3, rtol=1e-3)


def test_modes(digits: ImageData, means: nn.Module) -> None:
    settings = quick(shrink=None, limits={"pixel": 3.0}, epochs=12, lr=0.2)
    by_class = attack_pairs(means, digits, "classes", families=("additive",), settings=settings)
    universal = attack_pairs(means, digits, "universal", families=("additive",), settings=settings)
    assert (len(by_class.aims), len(universal.aims)) == (10, 1)
    still = attack_pairs(
        means, digits, "universal", families=("additive",),
        settings=quick(shrink=None, limits={"pixel": 1e-6}),
    )  # fmt: skip
    assert float(universal.success[0]) > float(still.success[0]) + 0.2
    assert not bool(still.reached[0])


def test_budgets_hold(digits: ImageData, means: nn.Module) -> None:
    """A larger budget does not succeed less, and what is kept lies within it."""
    found: list[PairAttack] = []
    for limit in (0.5, 2.0):
        settings = quick(shrink=None, limits={"pixel": limit}, epochs=25, batch_size=8, lr=0.1)
        attack = attack_pairs(means, digits, [(3, 8), (1, 7)], settings=settings)
        assert bool((attack.measures["pixel"] <= 1.15 * limit).all())  # measured on other images
        found.append(attack)
    assert float(found[1].success.sum()) > float(found[0].success.sum())


def test_the_model_stays_as_it_is(digits: ImageData) -> None:
    model = create("resnet8", classes=10, input_shape=(1, 16, 16), width=4).train()
    model.head.requires_grad_(False)
    digits = digits.resized(16)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    asked = [parameter.requires_grad for parameter in model.parameters()]
    torch.manual_seed(0)
    state = torch.get_rng_state()
    attack_pairs(model, digits, [(0, 1)], settings=quick(epochs=1))
    assert torch.equal(state, torch.get_rng_state())
    change = Pervasive.for_pairs([(0, 1)], (1, 16, 16))
    x = digits.of_class(0).pixels([0, 1])[None]
    Stepper(change, [(0, 1)], limits={"ssim": 0.1}).step(model, x, torch.zeros(1, 2).long())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert asked == [parameter.requires_grad for parameter in model.parameters()]
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training


@pytest.mark.parametrize("kind", ["pervasive", "patch"])
def test_a_few_steps_inside_an_objective_succeed(
    kind: str, digits: ImageData, means: nn.Module
) -> None:
    pairs = [(3, 8), (8, 3)]
    images = torch.stack([digits.of_class(k).pixels(range(8)) for k in (3, 8)])
    labels = torch.tensor([[3] * 8, [8] * 8])
    if kind == "patch":
        stepper = Stepper(
            Patches(2, (1, 8, 8)).start([draw(0), draw(1)]), pairs, weights={"patch": 0.05}, lr=0.1
        )
    else:
        space = Space(families=("additive", "kernel"))
        change = Pervasive.for_pairs(pairs, (1, 8, 8), space)
        stepper = Stepper(change, pairs, limits={"pixel": 2.0})
    steps = [stepper.step(means, images, labels) for _ in range(30)]
    assert float(steps[-1].success.min()) > 0.8
    assert float(steps[-1].loss.sum()) < float(steps[0].loss.sum()) or kind == "patch"
    made = stepper.changed(images)
    assert not made.requires_grad
    assert bool((means(made.flatten(0, 1)).argmax(1) != labels.flatten()).float().mean() > 0.7)
    if kind == "pervasive":
        assert float(pixel(images, made).mean(1).max()) < 2.4


def test_a_latent_attack_trains_its_own_coder(digits: ImageData, means: nn.Module) -> None:
    found = attack_pairs(
        means, digits, [(3, 8)], families=("latent",), settings=quick(epochs=2, batch_size=8)
    )
    phases = {entry["phase"] for entry in found.history}
    assert phases == {"train coder", "attack"}
    errors = [e["reconstruction"] for e in found.history if e["phase"] == "train coder"]
    assert errors[-1] < 0.3 * errors[0]


def test_gauges_measure_a_name_once() -> None:
    assert Gauges(["pixel", "ssim", "pixel"]).names == ("pixel", "ssim")


def test_bad_input_is_refused_before_the_search(digits: ImageData, means: nn.Module) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"aims": "everything"}, "aims are 'everything'"),
        ({"aims": [(0, 0)]}, "leads nowhere"),
        ({"aims": [(0, 10)]}, "no class 10"),
        ({"aims": [(True, 1)]}, "no class True"),
        ({"aims": [(0, 1), (0, 1)]}, "named twice"),
        ({"aims": []}, "no pairs"),
        ({"aims": [3]}, "no pair of classes"),
        ({"families": "flow"}, "families is 'flow'"),
        ({"families": ("tears",)}, "Space is not valid"),
        ({"families": ("flow",), "space": Space()}, "both families and a space"),
        ({"settings": quick(shrink="patch")}, "has no mask"),
        ({"clean": digits.images}, "clean images are a Tensor"),
        ({"clean": digits.subset((digits.labels != 4).nonzero().flatten())}, "class 4"),
        ({"clean": digits.of_class(2), "aims": "universal"}, "of one class"),
    ]
    for changes, message in cases:
        options = {"aims": [(4, 1)], **changes}
        with pytest.raises(InvalidInput, match=message):
            attack_pairs(means, options.pop("clean", digits), options.pop("aims"), **options)
    with pytest.raises(ModelUnsuitable):
        attack_pairs(means, digits.resized(9), [(0, 1)])
    with pytest.raises((InvalidInput, ValueError), match="neither"):
        Settings(shrink=None)
    with pytest.raises(InvalidInput, match="wanted"):
        Settings.from_dict({"wanted": 1.5})


def test_attacks_are_repeatable(digits: ImageData, means: nn.Module) -> None:
    def once(seed: int) -> Tensor:
        found = attack_pairs(means, digits, [(1, 7)], settings=quick(), seed=seed)
        return found.apply(0, digits.pixels([0]))

    assert torch.equal(once(1), once(1))
    assert not torch.equal(once(1), once(2))
