"""Every family of whole-image changes: no change at zero, values by hand, slopes, rows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from doorward.errors import InvalidInput
from doorward.hardening.transforms import (
    FAMILIES,
    Change,
    Coder,
    Patches,
    Pervasive,
    Space,
    bilinear,
)
from doorward.hardening.transforms.base import raw_of
from doorward.triggers import Blend, Sinusoid, Warp

NAMES = FAMILIES.names()


def coder(channels: int = 3) -> Coder:
    return Coder(channels, width=3, draw=torch.Generator().manual_seed(0))


def change_of(name: str, rows: int = 2, shape: Any = (3, 9, 11), **numbers: Any) -> Pervasive:
    space = Space(families=(name,), residual_width=2, **numbers)  # type: ignore[arg-type]
    return Pervasive(rows, shape, space, coder=coder(shape[0]))


def images(count: int = 4, shape: Any = (3, 9, 11)) -> Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(1))


def draws(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in range(count)]


@pytest.mark.parametrize("name", NAMES)
def test_zero_parameters_change_nothing(name: str) -> None:
    x = images()
    still = change_of(name)
    apart = (still(x) - x).detach().abs().max()
    assert float(apart) <= (1e-6 if name == "latent" else 0.0)
    assert still.sizes().tolist() == [0.0, 0.0]


def test_all_families_together_change_nothing() -> None:
    x, space = images(), Space(families=tuple(NAMES))  # type: ignore[arg-type]
    still = Pervasive(3, (3, 9, 11), space, coder=coder())
    assert list(still.parts) == space.ordered
    torch.testing.assert_close(still(x), x.expand(3, -1, -1, -1, -1), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_slopes_reach_every_row_from_zero(name: str) -> None:
    change = change_of(name)
    weight = torch.randn(2, 4, 3, 9, 11, generator=torch.Generator().manual_seed(3))
    (change(images().mul(0.6).add(0.2)) * weight).sum().backward()
    moved = [p for p in change.trained() if p.grad is not None and bool(p.grad.abs().sum() > 0)]
    assert moved
    for parameter in moved:
        assert bool((parameter.grad.flatten(1).abs().sum(1) > 0).all())  # type: ignore[union-attr]
    assert all(not p.requires_grad for n, p in change.named_parameters() if "coder" in n)


@pytest.mark.parametrize("name", [*NAMES, "patch"])
def test_rows_are_independent(name: str) -> None:
    """A row gives the same alone, among others, with own images, and after being moved about."""
    change: Change = Patches(3, (3, 9, 11)) if name == "patch" else change_of(name, 3)
    change.start(draws(3))
    x = images()
    whole = change(x).detach()
    assert float((whole[0] - whole[2]).abs().max()) > 1e-4
    rows = torch.tensor([2, 0])
    close = {"atol": 2e-6, "rtol": 0.0}
    torch.testing.assert_close(change(torch.stack([x, x]), rows), whole[rows], **close)
    torch.testing.assert_close(change.taken(rows)(x), whole[rows], **close)
    torch.testing.assert_close(change.sizes(rows), change.sizes()[rows])
    other = change.like(3)
    other.put(rows, change.taken(rows))
    torch.testing.assert_close(other(x)[[0, 2]], whole[[0, 2]], **close)
    kept = other.kept_where(torch.tensor([False, True, False]), list(change.trained()))
    again = change.like(3)
    again.put_where(torch.tensor([True, True, True]), kept)
    torch.testing.assert_close(again(x)[[0, 2]], whole[[0, 2]], **close)
    torch.testing.assert_close(again(x)[1], other(x)[1], **close)


@pytest.mark.parametrize("seed", [0, 3, 5])
def test_kernels_and_flow_are_wanet(seed: int) -> None:
    """Analytic weights reproduce WaNet: kernels pixel by pixel, the flow from its 4 x 4 points."""
    x = images(3, (3, 32, 24))
    warp = Warp(k=4, s=0.5, seed=seed)
    wanted = warp(x)
    grid = warp.grid(x.double())[0]
    height, width = 32, 24
    columns = (grid[..., 0] + 1) * (width - 1) / 2 - torch.arange(width)
    rows = (grid[..., 1] + 1) * (height - 1) / 2 - torch.arange(height)[:, None]
    assert float(torch.stack([columns, rows]).abs().max()) < 1
    kernels = bilinear(columns[None], rows[None])[0].float()
    exact = Pervasive(1, (3, 32, 24), Space(families=("kernel",), kernel_grid=None))
    exact.requires_grad_(False).parts["kernel"].assign(kernel=kernels)  # type: ignore[operator]
    assert float((exact(x)[0] - wanted).abs().max()) < 1e-5
    points = torch.rand(
        (1, 2, 4, 4), generator=_field_draw(seed), dtype=torch.float64
    ) * 2 - 1  # fmt: skip
    points = points[0] / points.abs().mean() * 0.5
    points = points * torch.tensor([(width - 1) / width, (height - 1) / height])[:, None, None] / 2
    smooth = Pervasive(1, (3, 32, 24), Space(families=("flow",), flow_grid=4))
    smooth.requires_grad_(False).parts["flow"].assign(points.float())  # type: ignore[operator]
    assert float((smooth(x)[0] - wanted).abs().max()) < 1e-5


def _field_draw(seed: int) -> torch.Generator:
    from doorward.randomness import generator

    return generator(seed, "warp field")


def test_kernels_blend() -> None:
    """Blend is a centre weight of 1 - alpha and a bias of alpha times the picture."""
    x = images(2, (3, 12, 12))
    blend = Blend(alpha=0.2, pattern="noise", seed=1)
    change = Pervasive(1, (3, 12, 12), Space(families=("kernel",), kernel_grid=None, bias_bound=1))
    kernel = torch.zeros(9, 12, 12)
    kernel[4] = 0.8
    change.requires_grad_(False).parts["kernel"].assign(
        kernel=kernel, bias=0.2 * blend.picture_for(x)
    )  # type: ignore[operator]
    assert float((change(x)[0] - blend(x)).abs().max()) < 1e-5


def test_kernel_by_hand() -> None:
    """A box blur of a dot, the edge pixels going on beyond the edge."""
    change = Pervasive(1, (1, 3, 3), Space(families=("kernel",), kernel_grid=1))
    change.requires_grad_(False)
    change.parts["kernel"].assign(kernel=torch.full((9, 1, 1), 1 / 9))  # type: ignore[operator]
    dot = torch.zeros(1, 1, 3, 3)
    dot[..., 0, 0] = 0.9
    expected = torch.tensor([[0.4, 0.2, 0.0], [0.2, 0.1, 0.0], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(change(dot)[0, 0, 0], expected, atol=1e-6, rtol=0)
    # Weights deviate by 8/9 once and 1/9 eight times, of a bound of 1; the bias not at all.
    assert float(change.sizes()) == pytest.approx((16 / 9 / 9) / 2, abs=1e-6)


def test_flow_by_hand() -> None:
    change = Pervasive(1, (1, 1, 3), Space(families=("flow",), flow_grid=1))
    change.parts["flow"].assign(torch.tensor([0.25, 0.0])[:, None, None])  # type: ignore[operator]
    line = torch.tensor([0.0, 0.4, 0.8])[None, None, None]
    expected = torch.tensor([0.1, 0.5, 0.8])
    torch.testing.assert_close(change(line)[0, 0, 0, 0], expected, atol=1e-6, rtol=0)


def test_colour_by_hand() -> None:
    """Knots at 0, 1/2 and 1: a quarter lies half way between the first two."""
    change = Pervasive(1, (1, 1, 3), Space(families=("colour",), colour_knots=3))
    part = change.parts["colour"]
    part.assign(offset=torch.tensor([0.05]), curve=torch.tensor([[0.1, 0.2, -0.1]]))  # type: ignore[operator]
    x = torch.tensor([0.25, 0.5, 0.75])[None, None, None]
    expected = torch.tensor([0.25 + 0.15, 0.5 + 0.2, 0.75 + 0.05]) + 0.05
    torch.testing.assert_close(change(x)[0, 0, 0, 0], expected, atol=1e-6, rtol=0)


def test_additive_reproduces_a_wave() -> None:
    """With as many cosines as pixels, anything smooth below the bound lies in the span."""
    x = torch.full((1, 1, 16, 16), 0.5)
    wanted = Sinusoid(delta=0.1, frequency=3)(x)[0, 0] - 0.5
    change = Pervasive(1, (1, 16, 16), Space(families=("additive",), frequencies=16))
    part = change.parts["additive"]
    raw = raw_of(wanted, 0.2)
    waves = torch.linalg.pinv(part.down) @ raw @ torch.linalg.pinv(part.right).T  # type: ignore[arg-type]
    part.waves.data[0, 0] = waves  # type: ignore[union-attr, index]
    torch.testing.assert_close(change(x)[0, 0, 0] - 0.5, wanted, atol=1e-5, rtol=0)


def test_latent_statistics_by_hand() -> None:
    """Against the definition: decoded z' minus decoded z."""
    change = change_of("latent", 1)
    part, x = change.parts["latent"], images().mul(0.5).add(0.25)
    part.spread.data.fill_(0.3)  # type: ignore[union-attr]
    part.level.data.fill_(-0.2)  # type: ignore[union-attr]
    z = part.coder.encode(x)  # type: ignore[union-attr, operator]
    centre = z.mean((2, 3), keepdim=True)
    bound = torch.log(torch.tensor(2.0))
    a, b = bound * 0.3 / 1.09**0.5, bound * -0.2 / 1.04**0.5
    moved = (z - centre) * a.exp() + centre * b.exp()
    decode = part.coder.decode  # type: ignore[union-attr]
    expected = (x + decode(moved, (9, 11)) - decode(z, (9, 11))).clamp(0, 1)  # type: ignore[operator]
    torch.testing.assert_close(change(x)[0], expected, atol=1e-6, rtol=0)
    own = change(x[None].clone())  # images that are not shared take the other way
    torch.testing.assert_close(own, change(x), atol=1e-6, rtol=0)


def test_residual_depends_on_the_image() -> None:
    change = change_of("residual", 1).start(draws(1), amount=0.5)
    x = images(2)
    made = (change(x)[0] - x).detach()
    assert float((made[0] - made[1]).abs().max()) > 1e-3
    torch.testing.assert_close(change(x[:1])[0, 0], change(x)[0, 0], atol=1e-6, rtol=0)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([n for n in NAMES if n != "latent"]))
def test_changes_stay_within_pixels_and_bounds(seed: int, name: str) -> None:
    change = change_of(name, 1, (1, 5, 6)).start([torch.Generator().manual_seed(seed)], amount=20)
    x = torch.rand(2, 1, 5, 6, generator=torch.Generator().manual_seed(seed))
    made = change(x).detach()
    assert 0 <= float(made.min()) <= float(made.max()) <= 1
    if name in ("additive", "residual"):
        assert float((made - x).abs().max()) <= 0.2 + 1e-6
    if name != "residual":
        assert 0 < float(change.sizes().detach()) <= 1 + 1e-6


def test_a_pair_begins_the_same_in_any_company() -> None:
    many = Pervasive.for_pairs([(0, 1), (2, 1)], (1, 8, 8), seed=4)
    one = Pervasive.for_pairs([(2, 1)], (1, 8, 8), seed=4)
    x = images(2, (1, 8, 8))
    torch.testing.assert_close(many(x)[1], one(x)[0], atol=1e-6, rtol=0)
    assert not torch.equal(one(x), Pervasive.for_pairs([(2, 1)], (1, 8, 8), seed=5)(x))


def test_bad_input_is_refused() -> None:
    change = change_of("flow")
    with pytest.raises(InvalidInput, match=r"images are \(4, 3, 9, 10\)"):
        change(torch.rand(4, 3, 9, 10))
    with pytest.raises(InvalidInput, match="images are"):
        change(torch.rand(3, 4, 3, 9, 11))
    with pytest.raises(InvalidInput, match="0 rows"):
        Patches(0, (1, 4, 4))
    with pytest.raises(InvalidInput, match="no encoder-decoder"):
        Pervasive(1, (3, 8, 8), Space(families=("latent",)))
    with pytest.raises(InvalidInput, match="no encoder-decoder"):
        Pervasive(1, (1, 8, 8), Space(families=("latent",)), coder=coder(3))
    for wrong in (
        {"families": ("tears",)},
        {"families": ()},
        {"flow_bound": 1.5},
        {"latent_factor": 1.0},
        {"kernel_grid": 0},
    ):
        with pytest.raises(InvalidInput, match="Space is not valid"):
            Space.from_dict(wrong)
    with pytest.raises((InvalidInput, ValueError), match="twice"):
        Space(families=("flow", "flow"))
