"""MESA's reference mode against closed forms, the two-optimiser algorithm, and a planted patch."""

from __future__ import annotations

import copy
import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from doorward.data import Batch, Batches, ImageData, load
from doorward.errors import InvalidInput
from doorward.models import create
from doorward.randomness import generator
from doorward.scanning import load_recovered, save_recovered, scan, scanner
from doorward.scanning.mesa import PatchDistribution
from doorward.scanning.mesa.generators import Generators
from doorward.scanning.mesa.reference import (
    BiasCorrection,
    Constants,
    MesaReference,
    StatisticsNetwork,
    fit_submodel,
    information,
)
from doorward.scanning.mesa.reference.constants import offsets
from doorward.scanning.mesa.reference.mine import GUARD
from doorward.scanning.mesa.reference.submodel import SubModel, Turns, capped
from doorward.scanning.mesa.stamping import paste
from doorward.training import Recipe, fit
from doorward.training.context import Context

TINY = Constants(size=2, iterations=4, batch_size=8, noise_size=8, hidden=8, lr=1e-2)


class Corner(nn.Module):
    """Two classes; class 1 by how near the top left 3x3 pixels are to 0.5: P = exp(-4 d^2)."""

    def __init__(self, far: float = 4.0) -> None:
        super().__init__()
        self.far = nn.Parameter(torch.tensor(far))

    def forward(self, images: Tensor) -> Tensor:
        distance = (images[:, :, :3, :3].float() - 0.5).square().sum((1, 2, 3))
        success = (-self.far * distance).exp().clamp(1e-6, 1 - 1e-6)
        return torch.stack([(1 - success).log(), success.log()], 1)


def context_of(model: nn.Module, seed: int = 0) -> Context:
    return Context(model, seed=seed, device=torch.device("cpu"), room="scanning")


def black(count: int = 64, size: int = 8) -> ImageData:
    return ImageData(
        torch.zeros(count, 1, size, size, dtype=torch.uint8), torch.arange(count) % 2, ("a", "b")
    )


@settings(deadline=None)
@given(
    st.lists(st.floats(0, 1, width=32), min_size=1, max_size=20),
    st.floats(1 / 64, 1, width=32),
)
def test_the_cap_is_the_level_minus_the_hinge(values: list[float], level: float) -> None:
    """min(p, beta) = beta - max(0, beta - p), of every image or of their mean."""
    p = torch.tensor(values, dtype=torch.float64)
    everyone = torch.ones(len(p), dtype=torch.bool)
    by_sample = level - (level - p).clamp_min(0).mean()
    by_mean = level - (level - p.mean()).clamp_min(0)
    assert float(capped(p, level, "sample", everyone)) == pytest.approx(float(by_sample))
    assert float(capped(p, level, "mean", everyone)) == pytest.approx(float(by_mean))


def test_images_past_the_level_give_no_slope() -> None:
    p = torch.tensor([0.2, 0.7, 0.95, 0.3], requires_grad=True)
    counted = torch.tensor([True, True, True, False])
    (slope,) = torch.autograd.grad(capped(p, 0.6, "sample", counted), p)
    assert slope.tolist() == pytest.approx([1 / 3, 0, 0, 0])
    (slope,) = torch.autograd.grad(capped(p, 0.9, "mean", counted), p)
    assert slope.tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0])
    assert float(capped(p.detach(), 0.6, "sample", torch.zeros(4, dtype=torch.bool))) == 0


def test_information_of_a_coin_is_log_2() -> None:
    """z = x, a fair coin: T = log of the density ratio is log 2 where they agree, else -inf."""
    joint, marginal = torch.full((4,), math.log(2)), torch.tensor([math.log(2), -99.0] * 2)
    assert float(information(joint, marginal)) == pytest.approx(math.log(2))


def test_the_corrected_gradient_by_hand() -> None:
    """d/dT_i of the marginal part: exp(T_i)/B * 1/(e + guard) * e/mean."""
    correction = BiasCorrection(rate=0.5)
    first = torch.tensor([0.0, 1.0])
    correction(torch.zeros(2), first)
    e0 = float(first.exp().mean())
    assert float(correction.mean) == pytest.approx(e0)
    joint = torch.tensor([0.3, -0.1], requires_grad=True)
    marginal = torch.tensor([2.0, -1.0], requires_grad=True)
    loss = correction(joint, marginal)
    by_joint, by_marginal = torch.autograd.grad(loss, [joint, marginal])
    e1 = float(marginal.detach().exp().mean())
    mean = e0 + 0.5 * (e1 - e0)
    assert float(correction.mean) == pytest.approx(mean)
    assert by_joint.tolist() == pytest.approx([-0.5, -0.5])
    by_hand = marginal.detach().exp() / 2 / (e1 + GUARD) * e1 / mean
    assert by_marginal.tolist() == pytest.approx(by_hand.tolist())
    assert float(loss.detach()) == pytest.approx(math.log(e1) * e1 / mean - 0.1, abs=1e-6)
    assert not correction.mean.requires_grad


def test_the_first_corrected_gradient_is_the_plain_one() -> None:
    joint, marginal = torch.randn(2, 8, generator=generator(0), requires_grad=True)
    (plain,) = torch.autograd.grad(-information(joint, marginal), marginal)
    (corrected,) = torch.autograd.grad(BiasCorrection()(joint, marginal), marginal)
    assert torch.allclose(plain, corrected)


@pytest.mark.parametrize(
    ("hidden", "of_generator", "of_statistics"),
    [(512, 567_755, 310_273), (2048, 8_561_099, 4_386_817)],
)
def test_networks_have_the_papers_sizes(hidden, of_generator, of_statistics) -> None:
    """0.57 M and 0.31 M for CIFAR-10, 8.56 M and 4.39 M for CIFAR-100."""
    pair = SubModel(nn.Flatten(), Constants(hidden=hidden), 3, generator(0))
    assert sum(p.numel() for p in pair.generator.parameters()) == of_generator
    assert sum(p.numel() for p in pair.statistics.parameters()) == of_statistics


def test_the_statistics_network_by_hand() -> None:
    network = StatisticsNetwork(1, 1, 1, draw=generator(0))
    with torch.no_grad():
        for layer, weight, bias in [
            (network.of_noise, 2.0, None),
            (network.of_patch, -1.0, None),
            (network.middle, 1.0, 0.5),
            (network.last, -1.0, 0.0),
        ]:
            layer.weight.fill_(weight)
            if bias is not None:
                layer.bias.fill_(bias)
        network.bias.fill_(1.0)
    noise, patches = torch.tensor([[1.0], [0.0]]), torch.tensor([[1.0], [6.0]])
    # 2 - 1 + 1 = 2 -> 2.5 -> -2.5; 0 - 6 + 1 = -5 -> -1 -> -0.5 -> -0.1 -> 0.1
    assert network(noise, patches).tolist() == pytest.approx([-0.5, 0.1])
    network.leaky_output = False
    assert network(noise, patches).tolist() == pytest.approx([-2.5, 0.1])


def test_turns_under_one_adam_are_two_optimisers() -> None:
    """The same weights as the algorithm written with an Adam for each network."""
    images = load("digits").sample(48, seed=0).resized(16)
    model = create("resnet8", classes=10, input_shape=(1, 16, 16), width=4).eval()
    constants, level, target = dataclasses.replace(TINY, iterations=7), 0.9, 3
    pair = SubModel(model, constants, 1, generator(1))
    other = copy.deepcopy(pair)
    recipe = Recipe(
        epochs=9, max_steps=14, batch_size=8, drop_last=True, optimizer="adam", lr=constants.lr,
        betas=constants.betas, schedule="constant", precision="fp32", channels_last=False, seed=5,
    )  # fmt: skip
    fit(pair, Turns(constants, target=target, level=level, seed=2), images, recipe)

    adams = [
        torch.optim.Adam(part.parameters(), lr=constants.lr, betas=constants.betas)
        for part in (other.generator, other.statistics)
    ]
    batches, other = Batches(images, 8, seed=5, drop_last=True), other.train()
    mean = None
    for batch in [batch for epoch in range(3) for batch in batches.epoch(epoch)][:14]:
        draw = generator(2, "turn", batch.step)
        z, fresh = torch.rand(8, 8, generator=draw), torch.rand(8, 8, generator=draw)
        x = other.generator(z[None])[0]
        joint, marginal = other.statistics(z, x), other.statistics(fresh, x)
        e = marginal.exp().mean()
        if batch.step % 2 == 0:
            noisy = x + 0.1 * torch.randn(x.shape, generator=draw)
            rows, columns = offsets(constants, batch.images, draw)
            p = other(paste(batch.images, noisy, rows, columns)).softmax(1)[:, target]
            mutual = joint.mean() - (e + 1e-8).log()
            loss = (level - p).clamp_min(0).mean() - constants.alpha * mutual
        else:
            mean = e.detach() if mean is None else mean + 0.001 * (e.detach() - mean)
            loss = -(joint.mean() - (e + 1e-8).log() * (e.detach() / mean))
        loss.backward()
        adams[batch.step % 2].step()
        for adam in adams:
            adam.zero_grad()
    theirs = other.state_dict()
    # Biases before a BatchNorm have no slope but rounding noise, which Adam blows up; they shift
    # the running means and nothing else.
    shifted = {"generator.means", *(f"generator.biases.{layer}" for layer in range(3))}
    for name, tensor in pair.state_dict().items():
        if name not in shifted:
            assert torch.allclose(tensor, theirs[name], atol=1e-5), name
    z = torch.rand(50, 8, generator=generator(7))
    assert torch.allclose(pair.train().patches(z), other.patches(z), atol=1e-5)


def test_places_of_the_code_and_better_ones() -> None:
    images, draw = torch.zeros(50, 1, 32, 32), generator(0)
    seen = [offsets(Constants(), images, draw) for _ in range(400)]
    assert all(len(axis.unique()) == 1 for pair in seen for axis in pair)
    rows = torch.stack([rows[0] for rows, _ in seen])
    assert (int(rows.min()), int(rows.max())) == (0, 28)
    rows, columns = offsets(Constants(location="image", last_offset=True), images, draw)
    assert len(rows.unique()) > 20
    every = [offsets(Constants(last_offset=True), images, draw)[1][0] for _ in range(400)]
    assert int(max(every)) == 29
    rows, columns = offsets(Constants(places=((1.0, 0.0),)), images, draw)
    assert (rows.unique().tolist(), columns.unique().tolist()) == ([29], [0])
    rows, _ = offsets(Constants(size=8), torch.zeros(2, 1, 8, 8), draw)
    assert rows.tolist() == [0, 0]


class Seen(nn.Module):
    """Keeps what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.images: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.images.append(images.detach())
        return self.weight * images.mean((2, 3)).repeat(1, 2)


def turn(constants: Constants, labels: list[int], step: int = 0) -> tuple[Tensor, dict, SubModel]:
    pair = SubModel(Seen(), constants, 1, generator(0)).train()
    count = len(labels)
    indices = torch.arange(count)
    images = torch.full((count, 1, 8, 8), 0.5)
    batch = Batch(images, torch.tensor(labels), indices, step, 0, count)
    loss, scalars = Turns(constants, target=1, level=0.9, seed=0)(pair, batch)
    return loss, scalars, pair


@pytest.mark.parametrize(("clamp", "within"), [(False, False), (True, True)])
def test_noise_on_triggers_is_clamped_on_demand(clamp: bool, within: bool) -> None:
    constants = dataclasses.replace(TINY, trigger_noise=1.0, clamp=clamp)
    _, _, pair = turn(constants, [0] * 16)
    shown = pair.model.images[-1]
    assert bool(((shown >= 0) & (shown <= 1)).all()) is within


def test_target_images_count_on_demand() -> None:
    loss, scalars, _ = turn(dataclasses.replace(TINY, alpha=0.0), [1, 1, 1, 1])
    assert float(scalars["gain"]) > 0
    assert float(scalars["success"]) == 0
    constants = dataclasses.replace(TINY, alpha=0.0, include_target=False)
    loss, scalars, pair = turn(constants, [1, 1, 1, 1])
    loss.backward()
    assert float(scalars["gain"]) == 0
    assert not any(p.grad is not None and p.grad.any() for p in pair.generator.parameters())


@pytest.mark.parametrize("step", [0, 1])
def test_only_whose_turn_it_is_gets_a_gradient(step: int) -> None:
    loss, _, pair = turn(TINY, [0, 1, 0, 1], step)
    loss.backward()
    trained, other = (pair.generator, pair.statistics)[:: 1 - 2 * step]
    assert all(p.grad is not None for p in trained.parameters())
    assert all(p.grad is None and p.requires_grad for p in other.parameters())


def test_noisy_statistics_are_a_switch() -> None:
    plain, _, _ = turn(TINY, [0, 1, 0, 1], step=1)
    noisy, _, _ = turn(dataclasses.replace(TINY, noisy_statistics=True), [0, 1, 0, 1], step=1)
    assert float(plain.detach()) != float(noisy.detach())


@pytest.fixture(scope="module")
def surface():
    """Sub-models of an analytic surface: how far samples succeed, and how far they spread."""

    def fitted(level: float, alpha: float) -> tuple[float, float]:
        model = Corner()
        constants = Constants(
            iterations=70, batch_size=64, hidden=16, noise_size=16, lr=1e-2, alpha=alpha,
            places=((0.0, 0.0),), trigger_noise=0.02,
        )  # fmt: skip
        made = fit_submodel(model, black(), context_of(model), constants, target=1, level=level)
        patches = made(made.noise(400, generator(9)))[0].detach()
        success = (-4 * (patches - 0.5).square().sum((1, 2, 3))).exp()
        return float(success.mean()), float(patches.std(0).mean())

    return {key: fitted(*key) for key in [(0.9, 0.0), (0.5, 0.1), (0.5, 10.0)]}


def test_alpha_spreads_and_too_much_of_it_leaves_the_set(surface) -> None:
    (point, narrow), (middle, wide), (outside, wider) = surface.values()
    assert point > 0.85
    assert middle > 0.4
    assert outside < 0.3
    assert narrow < wide < wider


def test_a_stack_answers_like_its_parts() -> None:
    parts = [SubModel(Corner(), TINY, 1, generator(k)).generator for k in range(3)]
    for part in parts:
        part(part.noise(30, generator(5)))  # moves the running statistics
    whole, noise = Generators.join(parts).eval(), torch.rand(1, 6, 8, generator=generator(1))
    for number, part in enumerate(parts):
        assert torch.allclose(whole(noise, number), part.eval()(noise))


def test_the_paper_is_the_default() -> None:
    method = scanner("mesa-reference")
    assert method == MesaReference()
    assert (method.alpha, method.iterations, method.lr, method.betas) == (
        0.1, 620, 2e-4, (0.5, 0.999),
    )  # fmt: skip
    assert (method.levels, method.hidden, method.batch_size) == ((0.9, 0.8, 0.5), 512, 128)
    assert (method.prior, method.hinge, method.location) == ("uniform", "sample", "batch")
    switches = ("last_offset", "clamp", "noisy_statistics", "include_target", "leaky_output")
    assert [getattr(method, name) for name in switches] == [False, False, False, True, True]


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 17},
        {"targets": (10,)},
        {"targets": ()},
        {"levels": (0.9, 0.9)},
        {"levels": (0.0,)},
        {"levels": ()},
        {"noise_size": 6},
        {"hinge": "none"},
        {"places": ((2.0, 0.0),)},
        {"held_out": 0.95},
        {"iterations": 0},
    ],
)
def test_bad_parameters_are_refused(wrong: dict) -> None:
    images = load("digits").sample(20, seed=0).resized(16)
    model = create("resnet8", classes=10, input_shape=(1, 16, 16), width=4)
    with pytest.raises(InvalidInput):
        scan(model, images, scanner("mesa-reference", **wrong))


def test_a_known_class_is_modelled_at_all_levels(tmp_path) -> None:
    method = MesaReference(**{**TINY.to_dict(), "targets": (1,), "levels": (0.9, 0.5)})
    result, recovered = scan(Corner(), black(16), method)
    assert [finding.target for finding in result.findings] == [1]
    assert recovered[1].levels == (0.9, 0.5)
    assert recovered[1].weights == (0.5, 0.5)
    assert len({entry["phase"] for entry in result.history}) == 2
    save_recovered(recovered[1], tmp_path / "found")
    again = load_recovered(tmp_path / "found")
    images = torch.zeros(5, 1, 8, 8)
    assert torch.equal(again.stamp(images, generator(0)), recovered[1].stamp(images, generator(0)))
    repeated, _ = scan(Corner(), black(16), method)
    assert repeated.findings == result.findings


def test_the_planted_class_stands_out(scattered_model, digits16) -> None:
    """One short sub-model per class: the attacked class is the suspect, by far."""
    method = MesaReference(
        iterations=20, batch_size=16, hidden=32, noise_size=16, lr=1e-2, levels=(0.9,)
    )
    result, recovered = scan(scattered_model, digits16.clean, method, seed=1)
    assert result.suspect == 3
    assert result.accused == [3]
    assert result.finding(3).attack_success > 0.7
    assert len(recovered) == 10
    assert all(found.target == target for target, found in recovered.items())


def test_samples_are_the_same_under_autocast() -> None:
    pair = SubModel(Corner(), TINY, 1, generator(0))
    found = PatchDistribution.of(1, pair.generator, sizes=[2], levels=[0.9])
    plain = found.stamp(torch.zeros(3, 1, 8, 8), generator(1))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(found.stamp(torch.zeros(3, 1, 8, 8), generator(1)), plain)
