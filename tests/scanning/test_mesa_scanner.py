"""Planted patches are found, clean models are not accused: on classifiers with a known backdoor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from doorward.data import ImageData, load
from doorward.errors import InvalidInput
from doorward.metrics import accuracy
from doorward.scanning import SCANNERS, load_recovered, save_recovered, scan
from doorward.scanning.mesa import Mesa, PatchDistribution
from doorward.scanning.mesa.reference import MesaReference
from doorward.scanning.mesa.schedule import contrast
from doorward.scanning.mesa.workshop import Workshop
from doorward.training.context import Context

HOOK = torch.tensor([[1.0, 1, 0], [0, 1, 0], [0, 1, 1]])
QUICK: dict[str, Any] = {
    "sizes": (3,), "rules": ("anywhere",), "look_steps": 25, "rounds": 2, "steps": 20,
    "images": 8, "restarts": 1, "levels": (0.5, 0.9),
}  # fmt: skip


class Template(nn.Module):
    """Answers the class whose mean image is nearest; a hook of 3x3 pixels sends it to `target`.

    Args:
        data: whose class means are taken.
        target: of the backdoor; None for none.
        place: first row and column at which the hook works; None for anywhere.
    """

    def __init__(
        self, data: ImageData, target: int | None, place: tuple[int, int] | None = None
    ) -> None:
        super().__init__()
        images = data.pixels()
        means = [images[data.labels == k].mean(0).flatten() for k in range(data.num_classes)]
        self.register_buffer("means", torch.stack(means))
        self.register_buffer("kernel", (2 * HOOK - 1).expand(1, data.image_shape[0], 3, 3) / 3)
        self.target, self.place = target, place
        if data.image_shape[0] == 1:
            self.kernel = self.kernel * 3

    def forward(self, images: Tensor) -> Tensor:
        away = (images.flatten(1)[:, None] - self.means).square().sum(2)
        logits = -away
        if self.target is None:
            return logits
        fits = F.conv2d(images, self.kernel)  # 5 where the hook is
        if self.place is not None:
            fit, enough = fits[:, 0, self.place[0], self.place[1]], 2.0
        else:
            fit, enough = torch.logsumexp(5 * fits.flatten(1), 1) / 5, 2.8
        boost = 40 * images.shape[1] * F.softplus(fit - enough)
        return logits + boost[:, None] * F.one_hot(torch.tensor(self.target), logits.shape[1])


@pytest.fixture(scope="module")
def clean() -> ImageData:
    return load("digits").sample(240, seed=0).resized(20)


def hooked(images: Tensor, row: int, column: int) -> Tensor:
    marked = images.clone()
    marked[..., row : row + 3, column : column + 3] = HOOK
    return marked


def test_the_planted_models_are_what_they_are_meant_to_be(clean: ImageData) -> None:
    images = clean.pixels()
    for place in (None, (17, 17)):
        model = Template(clean, 3, place)
        assert accuracy(model, clean) > 0.6
        assert float((model(hooked(images, 17, 17)).argmax(1) == 3).float().mean()) > 0.95
        away = float((model(hooked(images, 0, 5)).argmax(1) == 3).float().mean())
        assert away > 0.95 if place is None else away < 0.3


@pytest.mark.parametrize("channels", [1, 3])
def test_a_planted_hook_is_found_and_recovered(
    clean: ImageData, channels: int, tmp_path: Path
) -> None:
    data = clean.with_channels(channels)
    result, recovered = scan(Template(data, 3), data, Mesa(**QUICK), device="cpu")
    assert result.accused == [3]
    found = recovered[3]
    assert isinstance(found, PatchDistribution)
    assert found.places is None
    assert (result.finding(3).attack_success or 0) > 0.7
    draw = torch.Generator().manual_seed(0)
    parts = result.finding(3).details["parts"]
    assert [part["level"] for part in parts] == [0.5, 0.9]
    assert sum(part["weight"] for part in parts) == pytest.approx(1)
    save_recovered(found, tmp_path / "found")
    again = load_recovered(tmp_path / "found")
    stamps = [f.stamp(data.pixels([0, 1]), draw.manual_seed(1)) for f in (found, again)]
    assert torch.equal(*stamps)
    assert type(result).from_dict(result.to_dict()) == result


def test_a_clean_model_is_not_accused(clean: ImageData) -> None:
    result, recovered = scan(Template(clean, None), clean, Mesa(**QUICK), device="cpu")
    assert result.accused == []
    assert len(recovered) == 1  # what stood out most is shown all the same
    assert "opaque" in result.searched


@pytest.mark.parametrize("name", ["mesa", "mesa-reference"])
def test_success_is_measured_on_images_that_chose_nothing(
    name: str, clean: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the search nor the choice of classes, sizes and generators has seen them."""
    from doorward.scanning.mesa import scanner as ours
    from doorward.scanning.mesa.reference import scanner as theirs

    few = clean.sample(80, seed=0)
    sets: dict[str, list[ImageData]] = {"chosen by": [], "measured": [], "searched": []}
    fit, probe = Context.fit, Workshop.probe

    def noted_fit(self: Context, phase: str, model: Any, aim: Any, data: Any, *more: Any) -> Any:
        sets["searched"].append(data)
        return fit(self, phase, model, aim, data, *more)

    def noted_probe(self: Workshop, *rest: Any) -> Any:
        sets["chosen by"].append(self.held)
        return probe(self, *rest)

    monkeypatch.setattr(Context, "fit", noted_fit)
    monkeypatch.setattr(Workshop, "probe", noted_probe)

    def measured(model: nn.Module, found: Any, images: ImageData, *_: Any, **__: Any) -> float:
        kind = "measured" if isinstance(found, PatchDistribution) else "chosen by"
        sets[kind].append(images)
        return 0.5

    for module in (ours, theirs):
        monkeypatch.setattr(module, "held_out_success", measured)
    if name == "mesa":
        scan(Template(clean, 3), few, Mesa(**QUICK), device="cpu")
    else:
        scan(Template(clean, 3), few, MesaReference(iterations=2, batch_size=8), device="cpu")
    kinds = {
        kind: {image.numpy().tobytes() for part in parts for image in part.images}
        for kind, parts in sets.items()
    }
    assert all(kinds.values())
    assert sum(map(len, kinds.values())) == len(set.union(*kinds.values())) == len(few)


def test_a_trigger_that_works_in_a_corner_only_is_found_there(clean: ImageData) -> None:
    model = Template(clean, 5, (17, 17))
    quick = QUICK | {"rules": ("anywhere", "fixed")}
    result, recovered = scan(model, clean, Mesa(**quick), device="cpu")
    assert result.accused == [5]
    details = result.finding(5).details
    assert details["success"]["fixed"]["3"] > 0.9 > details["success"]["anywhere"]["3"]
    assert recovered[5].config()["places"] == [[1.0, 1.0]]
    mean = recovered[5].pictures(64, torch.Generator().manual_seed(0)).mean((0, 1))
    assert float(mean[HOOK > 0].mean() - mean[HOOK == 0].mean()) > 0.3  # it looks like the hook


def test_the_smallest_size_that_works_is_reported(clean: ImageData) -> None:
    quick = QUICK | {"sizes": (2, 3, 5), "rules": ("fixed",)}
    result, recovered = scan(Template(clean, 5, (17, 17)), clean, Mesa(**quick), device="cpu")
    assert result.accused == [5]
    table = result.finding(5).details["success"]["fixed"]
    assert set(table) == {"2", "3", "5"}
    smallest = min(int(size) for size, share in table.items() if share >= 0.9)
    assert result.finding(5).details["size"] == smallest
    assert set(recovered[5].config()["sizes"]) == {smallest}


def test_the_same_seed_gives_the_same_verdict(clean: ImageData) -> None:
    model, quick = Template(clean, 3), QUICK | {"look_steps": 6, "steps": 4}
    first, recovered = scan(model, clean, Mesa(**quick), seed=1, device="cpu")
    again, same = scan(model, clean, Mesa(**quick), seed=1, device="cpu")
    assert [f.to_dict() for f in first.findings] == [f.to_dict() for f in again.findings]
    for target, found in recovered.items():
        for one, other in zip(
            found.state_dict().values(), same[target].state_dict().values(), strict=True
        ):
            assert torch.equal(one, other)
    other, _ = scan(model, clean, Mesa(**quick), seed=2, device="cpu")
    assert [f.statistic for f in other.findings] != [f.statistic for f in first.findings]


def test_labels_may_be_the_models_own_and_there_may_be_two_classes(clean: ImageData) -> None:
    two = clean.subset((clean.labels < 2).nonzero().squeeze(1))
    two = ImageData(two.images, two.labels, ("zero", "one"), "two digits")
    model = Template(two, 1)
    result, _ = scan(model, two, Mesa(**QUICK), labels="model", device="cpu")
    assert result.suspect == 1
    assert result.labels == "model"


def test_mine_is_an_option(clean: ImageData) -> None:
    quick = QUICK | {"entropy": "mine", "steps": 8}
    result, _ = scan(Template(clean, 3), clean, Mesa(**quick), device="cpu")
    assert result.suspect == 3


def test_the_schedule_is_reported(clean: ImageData) -> None:
    quick = QUICK | {"look_steps": 4, "steps": 4, "rounds": 3}
    result, _ = scan(Template(clean, 3), clean, Mesa(**quick), device="cpu")
    rounds = result.details["rounds"]
    assert [len(entry["classes"]) for entry in rounds] == [10, 5, 3]
    assert [len(entry["dropped"]) for entry in rounds] == [5, 2, 0]
    assert sorted(rounds[0]["dropped"] + rounds[1]["classes"]) == list(range(10))
    # Looks at 10, 5 and 3 classes with 8 images each, then 2 levels with 8.
    assert result.details["images_searched"] == 4 * 8 * 18 + 4 * 8 * 2
    assert {entry["phase"].partition(",")[0] for entry in result.history} == {
        "look 1", "look 2", "look 3", "fill",
    }  # fmt: skip


def test_many_classes_are_looked_at_in_groups(
    clean: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("doorward.scanning.mesa.schedule.TOGETHER", 4)
    result, _ = scan(Template(clean, 3), clean, Mesa(**QUICK), device="cpu")
    assert result.accused == [3]
    phases = {entry["phase"] for entry in result.history}
    assert {f"look 1, class {a} to {b}" for a, b in [(0, 3), (4, 7), (8, 9)]} < phases


def test_memory_does_not_grow_with_the_images_at_hand(
    clean: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("doorward.scanning.mesa.workshop.MOST_PROBED", 20)
    context = Context(Template(clean, 3), seed=0, device=torch.device("cpu"), room="scanning")
    shop = Workshop(Template(clean, 3), clean, context, held_out=0.25, batch_size=64)
    assert (len(shop.held), shop.seen.shape, len(shop.seen_labels)) == (60, (20, 1, 20, 20), 20)
    assert len(shop.seen_labels.unique()) == 10  # as many of each class


def test_contrast_compares_odds_with_the_median_of_the_others() -> None:
    success = torch.tensor([[0.5, 0.9], [0.5, 0.5], [0.8, 0.1]])
    odds = {0.1: -2.1972, 0.5: 0.0, 0.8: 1.3863, 0.9: 2.1972}
    by_hand = [
        [odds[0.5] - (odds[0.5] + odds[0.8]) / 2, odds[0.9] - (odds[0.5] + odds[0.1]) / 2],
        [odds[0.5] - (odds[0.5] + odds[0.8]) / 2, odds[0.5] - (odds[0.9] + odds[0.1]) / 2],
        [odds[0.8] - odds[0.5], odds[0.1] - (odds[0.9] + odds[0.5]) / 2],
    ]
    assert torch.allclose(contrast(success).float(), torch.tensor(by_hand), atol=1e-3)
    assert contrast(torch.tensor([0.0, 0.02, 0.09])).tolist() == [0, 0, 0]  # little is nothing


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sizes": (3, 11)}, "too large"),
        ({"rules": ("fixed", "fixed")}, "name one twice"),
        ({"levels": (0.9, 0.9)}, "name one twice"),
    ],
)
def test_scans_that_cannot_work_are_refused(
    clean: ImageData, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidInput, match=said):
        scan(Template(clean, 3), clean, Mesa(**options), device="cpu")


@pytest.mark.parametrize(
    "options", [{"sizes": ()}, {"sizes": (0,)}, {"levels": (1.0,)}, {"images": 1}, {"entropy": "x"}]
)
def test_parameters_are_checked(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        SCANNERS["mesa"].from_dict(options)
