"""The mixture of generators: its arithmetic, its file, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from doorward.errors import DoorwardError, InvalidInput
from doorward.scanning import load_recovered, save_recovered
from doorward.scanning.mesa import Generators, PatchDistribution
from doorward.scanning.mesa.stamping import cut, paste, random_places


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mixture(**changes: Any) -> PatchDistribution:
    options: dict[str, Any] = {
        "channels": 3,
        "sizes": [2, 3],
        "levels": [0.5, 0.9],
        "weights": [1, 3],
        "noise": 8,
        "hidden": 6,
    }
    return PatchDistribution(1, **(options | changes))


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_a_stack_computes_what_its_members_compute_alone(norm: Any) -> None:
    stack = Generators(3, channels=1, size=2, noise=8, hidden=6, norm=norm, draw=draw())
    noise = stack.noise(7, draw(1))
    stack(noise)  # in training mode: moves the running statistics, if there are any
    stack.eval()
    together = stack(noise)
    for member in range(3):
        alone = stack.pick([member])
        assert torch.allclose(alone(noise[member : member + 1])[0], together[member], atol=1e-6)
        assert torch.allclose(stack(noise[member : member + 1], member)[0], together[member])


def test_batch_norm_is_that_of_pytorch() -> None:
    stack = Generators(1, channels=1, size=1, noise=4, hidden=5, norm="batch", draw=draw())
    layer = torch.nn.BatchNorm1d(5)
    below = torch.randn(9, 5, generator=draw(1))
    for _ in range(3):
        ours, theirs = stack._normalised(below[None], 0, slice(None))[0], layer(below)
        assert torch.allclose(ours, theirs, atol=1e-6)
    stack.eval()
    layer.eval()
    assert torch.allclose(stack._normalised(below[None], 0, slice(None))[0], layer(below))


def test_the_first_layer_sees_a_quarter_of_the_noise_and_every_layer_another() -> None:
    stack = Generators(2, channels=3, size=3, noise=64, hidden=512, norm="batch")
    shapes = [tuple(weight.shape) for weight in stack.weights]
    assert shapes == [(2, 16, 512), (2, 528, 512), (2, 528, 512), (2, 528, 27)]
    assert sum(p.numel() for p in stack.parameters()) // 2 == 567_755  # the paper's 0.57 M


@given(height=st.integers(3, 9), width=st.integers(3, 9), size=st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_cut_takes_out_what_paste_put_in_and_nothing_else_changes(
    height: int, width: int, size: int
) -> None:
    images, patches = torch.rand(5, 2, height, width), torch.rand(5, 2, size, size) + 2
    rows, columns = random_places(5, (height - size, width - size), draw(height))
    stamped = paste(images, patches, rows, columns)
    assert torch.equal(cut(stamped, size, rows, columns), patches)
    assert int((stamped != images).sum()) == patches.numel()


def test_random_places_reach_the_last_row_and_column() -> None:
    rows, columns = random_places(400, (5, 2), draw())
    assert set(rows.tolist()) == set(range(6))
    assert set(columns.tolist()) == set(range(3))


def test_fixed_places_are_the_only_ones_used() -> None:
    found = mixture(sizes=[2, 2], places=[(0, 0), (1, 1)])
    changed = (found.stamp(torch.full((40, 3, 6, 7), 2.0), draw()) != 2).any(1)
    seen = {tuple(map(tuple, picture.nonzero().tolist())) for picture in changed}
    assert seen == {((0, 0), (0, 1), (1, 0), (1, 1)), ((4, 5), (4, 6), (5, 5), (5, 6))}


def test_components_are_drawn_by_weight_and_keep_their_size() -> None:
    patches, which = mixture().sample(800, draw())
    assert abs(float((which == 1).float().mean()) - 0.75) < 0.05
    border = torch.cat([patches[:, :, 2, :].flatten(1), patches[:, :, :, 2].flatten(1)], 1)
    assert bool((border[which == 0] == 0.5).all())
    assert not bool((border[which == 1] == 0.5).all(1).any())
    only = mixture().at_level(0.5)
    assert only.weights == (1.0,)
    assert only.pictures(3, draw()).shape == (3, 3, 2, 2)


def test_a_stamp_depends_on_the_draw_alone() -> None:
    found, images = mixture(), torch.rand(6, 3, 8, 8)
    assert torch.equal(found.stamp(images, draw(1)), found.stamp(images, draw(1)))
    assert not torch.equal(found.stamp(images, draw(1)), found.stamp(images, draw(2)))
    assert found.stamp(images[:0], draw()).shape == (0, 3, 8, 8)
    assert not found.train().generators.training


@pytest.mark.parametrize("places", [None, [(0.0, 0.5)]])
@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_a_saved_mixture_draws_the_same(tmp_path: Path, places: Any, norm: Any) -> None:
    found = mixture(places=places, norm=norm, side=5, prior="uniform")
    for parameter in found.parameters():
        parameter += torch.rand(parameter.shape, generator=draw())
    save_recovered(found, tmp_path / "found")
    again = load_recovered(tmp_path / "found")
    assert isinstance(again, PatchDistribution)
    assert again.config() == found.config()
    images = torch.rand(4, 3, 7, 7)
    assert torch.equal(again.stamp(images, draw()), found.stamp(images, draw()))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sizes": []}, "0 sizes"),
        ({"levels": [0.5]}, "1 levels"),
        ({"sizes": [2, 0]}, "a size is 0"),
        ({"sizes": [2, True]}, "a size is True"),
        ({"levels": [0.5, 1.5]}, "a level is 1.5"),
        ({"levels": [0.5, float("nan")]}, "a level is nan"),
        ({"weights": [0, 0]}, "all weights are 0"),
        ({"weights": [1, -1]}, "a weight is -1"),
        ({"places": []}, "no places"),
        ({"places": [(0.5,)]}, "a place is"),
        ({"places": ["ab"]}, "a place is"),
        ({"places": [(0.5, 2)]}, "column is 2"),
        ({"side": 2}, "side 2"),
        ({"noise": 6}, "multiple of 4"),
        ({"hidden": 0}, "hidden is 0"),
        ({"hidden": 10**9}, "too large"),
        ({"norm": "group"}, "norm is"),
        ({"channels": "3"}, "channels is"),
    ],
)
def test_bad_arguments_are_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        mixture(**changes)


def test_images_that_do_not_fit_are_refused() -> None:
    for shape in [(1, 1, 8, 8), (1, 3, 2, 8)]:
        with pytest.raises(InvalidInput, match="do not fit"):
            mixture().stamp(torch.zeros(shape), draw())
    with pytest.raises(InvalidInput, match=r"no level 0\.7"):
        mixture().at_level(0.7)
    stack = Generators(1, channels=1, size=2)
    with pytest.raises(InvalidInput, match="1 generators and 2 sizes"):
        PatchDistribution.of(0, stack, sizes=[2, 2], levels=[0.5, 0.9])


def test_a_damaged_file_is_an_error_of_ours(tmp_path: Path) -> None:
    save_recovered(mixture(), tmp_path / "found")
    place = tmp_path / "found" / "recovered.json"
    described = json.loads(place.read_text())
    for key, value in [("sizes", "two"), ("levels", None), ("noise", 1e9), ("channels", [1])]:
        changed = described | {"config": described["config"] | {key: value}}
        place.write_text(json.dumps(changed))
        with pytest.raises(DoorwardError):
            load_recovered(tmp_path / "found")
        with pytest.raises(DoorwardError):
            PatchDistribution.from_config(changed["config"])
