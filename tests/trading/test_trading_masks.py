"""Masks: identity, folding on every architecture, what is refused, files."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from doorward.errors import BadFile, InvalidInput, ModelUnsuitable, UnknownName
from doorward.models import ARCHITECTURES, create, export_onnx, site
from doorward.randomness import Secret
from doorward.trading.masks import (
    MASKS,
    MaskBank,
    TrainedMasks,
    default_sites,
    identity_bank,
    keyed_bank,
)

SMALL = {
    "convnext-atto": {"width": 8}, "densenet121": {"growth": 4}, "resnet18": {"width": 8},
    "resnet20": {"width": 4}, "resnet34": {"width": 4}, "resnet8": {"width": 4},
    "preact-resnet18": {"width": 4}, "vgg11-bn": {"width": 4}, "vgg16-bn": {"width": 4},
    "vit-small": {"width": 12, "depth": 1, "heads": 2},
    "vit-tiny": {"width": 12, "depth": 1, "heads": 3},
}  # fmt: skip
LARGE = {"wrn-28-10"}  # its blocks are those of wrn-16-1
FOLDABLE = [name for name in MASKS if MASKS[name].extent == "channel"]


def random_bank(model: nn.Module, kind: str, images: torch.Tensor) -> MaskBank:
    """Masks far from one at the default sites, and other statistics."""
    if MASKS[kind].keyed:
        return keyed_bank(model, kind, images, Secret(bytes(range(32))))
    masks = TrainedMasks(identity_bank(model, kind, images))
    masks.scatter(0.9, seed=0)
    return masks.bank()


def network(name: str) -> nn.Module:
    model = create(name, classes=4, input_shape=(1, 16, 16), **SMALL.get(name, {}))
    draw = torch.Generator().manual_seed(0)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):  # nothing of the start would show a wrong order
            layer.running_mean.normal_(0, 0.1, generator=draw)
            layer.running_var.uniform_(0.5, 2, generator=draw)
            layer.weight.data.uniform_(0.5, 1.5, generator=draw)
            layer.bias.data.normal_(0, 0.1, generator=draw)
    return model.eval()


@pytest.mark.parametrize("name", sorted(set(ARCHITECTURES) - LARGE))
def test_on_every_architecture_folded_is_applied_and_one_is_nothing(name: str) -> None:
    model, images = network(name), torch.rand(2, 1, 16, 16)
    with torch.inference_mode():
        before = model(images)
        for kind in ("channel", "permutation"):  # signs and switches fold as numbers do
            bank = random_bank(model, kind, images)
            folded, wanted = bank.fold(model), bank.apply(model)(images)
            assert list(folded.state_dict()) == list(model.state_dict())
            scale = float(wanted.abs().max()) + 1e-6
            assert float((wanted - before).abs().max()) > 1e-2 * scale, kind
            torch.testing.assert_close(folded(images), wanted, atol=1e-3 * scale, rtol=0)
        for kind in ("channel", "element"):
            bank = identity_bank(model, kind, images)
            assert bank.is_identity
            assert torch.equal(bank.apply(model)(images), before), kind
        assert torch.equal(model(images), before), "the model itself was changed"


def test_every_kind_on_one_architecture(tiny, pictures) -> None:
    before = tiny(pictures)
    for kind in MASKS:
        assert torch.equal(identity_bank(tiny, kind, pictures).apply(tiny)(pictures), before), kind
        bank = random_bank(tiny, kind, pictures)
        wanted = bank.apply(tiny)(pictures)
        assert not torch.allclose(wanted, before, rtol=1e-2, atol=1e-4), kind
        if kind in FOLDABLE:
            torch.testing.assert_close(bank.fold(tiny)(pictures), wanted, atol=1e-4, rtol=1e-4)


def test_masks_by_hand() -> None:
    model = nn.Sequential(nn.Conv2d(2, 2, 1), nn.Flatten(), nn.Linear(2, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(2).view(2, 2, 1, 1))
        model[0].bias.zero_()
        model[2].weight.copy_(torch.eye(2))
        model[2].bias.zero_()
    images = torch.tensor([[[[3.0]], [[5.0]]]])
    for mask, kind, answer in [
        (torch.tensor([2.0, 0.5]).view(2, 1, 1), "channel", [6.0, 2.5]),
        (torch.tensor([1.0, -1.0]).view(2, 1, 1), "sign", [3.0, -5.0]),
        (torch.tensor([1, 0]).view(2, 1, 1), "permutation", [5.0, 3.0]),
        (torch.tensor([0.0, 1.0]).view(2, 1, 1), "channel-binary", [0.0, 5.0]),
        (torch.tensor([4.0]).view(1, 1, 1), "spatial", [12.0, 20.0]),
    ]:
        bank = MaskBank(kind, {"0": mask})
        assert bank.apply(model)(images)[0].tolist() == answer
        if MASKS[kind].extent == "channel":
            assert bank.fold(model)(images)[0].tolist() == answer


def test_statistics_belong_to_the_key(tiny, pictures) -> None:
    layer = tiny.body.stem[1]
    other = (layer.running_mean + 1, layer.running_var * 2)
    masks = identity_bank(tiny, "channel", pictures).masks
    bank = MaskBank("channel", masks, {"body.stem.1": other})
    assert not bank.is_identity
    for unlocked in (bank.apply(tiny), bank.fold(tiny)):
        inside = next(m for m in unlocked.modules() if isinstance(m, nn.BatchNorm2d))
        assert torch.equal(inside.running_mean, other[0])
        assert torch.equal(inside.running_var, other[1])
        assert not torch.allclose(unlocked(pictures), tiny(pictures), atol=1e-3)
    assert not torch.equal(layer.running_mean, other[0])


def test_default_sites() -> None:
    model, images = network("resnet8"), torch.rand(1, 1, 16, 16)
    assert default_sites(model, "element", images) == ["body.stage1", "body.stage2", "body.stage3"]
    norms = [n for n, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)]
    assert default_sites(model, "channel", images) == norms
    # Depthwise convolutions have a fixed order, and norms in front of convolutions as well.
    mobile = network("mobilenetv2")
    orders, scales = (default_sites(mobile, kind, images) for kind in ("permutation", "channel"))
    assert 0 < len(orders) < len(scales)
    assert all(isinstance(site(mobile, name), nn.BatchNorm2d) for name in orders)


def test_a_scale_in_front_of_batchnorm_is_refused_because_it_is_undone(tiny, pictures) -> None:
    with pytest.raises(InvalidInput, match="would be undone") as refused:
        identity_bank(tiny, "channel", pictures, ["body.stem.0"])
    assert "body.stem.1" in str(refused.value)
    # The fault itself: under batch statistics such a mask changes nothing that it could teach.
    tiny.train()
    half = MaskBank("channel", {"body.stem.0": torch.full((4, 1, 1), 0.5)})
    torch.testing.assert_close(half.apply(tiny)(pictures), tiny(pictures), atol=1e-2, rtol=1e-2)
    behind = MaskBank("channel", {"body.stem.1": torch.tensor([0.0, 1, 1, 1]).view(4, 1, 1)})
    assert not torch.allclose(behind.apply(tiny)(pictures), tiny(pictures), atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize("kind", ["element", "permutation"])
def test_masked_models_export_to_onnx(tiny, pictures, kind: str, tmp_path) -> None:
    bank = random_bank(tiny, kind, pictures)
    facts = export_onnx(bank.apply(tiny), tmp_path / "m.onnx", input_shape=(1, 16, 16))
    assert facts["max_difference"] < 1e-3


def test_what_does_not_fold_is_refused_and_leaves_the_model_alone(tiny, pictures) -> None:
    for kind, sites in [("element", None), ("spatial", None), ("channel", ["body.stage1"])]:
        bank = identity_bank(tiny, kind, pictures, sites)
        before = {name: value.clone() for name, value in tiny.state_dict().items()}
        with pytest.raises(ModelUnsuitable, match="cannot be folded"):
            bank.fold(tiny)
        assert all(torch.equal(value, before[name]) for name, value in tiny.state_dict().items())
    # Through a ReLU a negative scale would be another function.
    mask = torch.tensor([1.0, -1.0, 1.0, 1.0]).view(4, 1, 1)
    with pytest.raises(ModelUnsuitable, match="ends in a ReLU"):
        MaskBank("sign", {"body.stem": mask}).fold(tiny)
    MaskBank("channel", {"body.stem": mask.abs()}).fold(tiny)
    tied = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    tied[1].weight = tied[0].weight
    with pytest.raises(ModelUnsuitable, match="shared"):
        MaskBank("channel", {"0": torch.ones(2)}).fold(tied)


def test_wrong_calls(tiny, pictures) -> None:
    ones = torch.ones(4, 1, 1)
    for call, error, message in [
        (lambda: MaskBank("chanel", {"a": ones}), UnknownName, "Did you mean 'channel'"),
        (lambda: MaskBank("channel", {}), InvalidInput, "without masks"),
        (lambda: MaskBank("channel", {"a": torch.ones(4, 2)}), InvalidInput, "one value per"),
        (lambda: MaskBank("channel", {"a": ones * torch.nan}), InvalidInput, "finite"),
        (lambda: MaskBank("channel-binary", {"a": ones / 2}), InvalidInput, "0 or 1"),
        (lambda: MaskBank("sign", {"a": ones * 2}), InvalidInput, "1 or -1"),
        (lambda: MaskBank("permutation", {"a": torch.zeros(3).long()}), InvalidInput, "order"),
        (
            lambda: MaskBank("channel", {"a": ones}, {"b": (torch.ones(2), -torch.ones(2))}),
            InvalidInput,
            "no means and variances",
        ),
        (lambda: MaskBank("channel", {"a": ones}).apply(tiny), InvalidInput, "no site 'a'"),
        (
            lambda: MaskBank("channel", {"body.stem.1": torch.ones(5, 1, 1)}).fold(tiny),
            InvalidInput,
            "has 5 values",
        ),
        (
            lambda: MaskBank("channel", {"body.stem.1": torch.ones(5, 1, 1)}).apply(tiny)(pictures),
            InvalidInput,
            "does not fit maps",
        ),
        (lambda: identity_bank(tiny, "channel", pictures, ["x"]), UnknownName, "site"),
        (lambda: identity_bank(tiny, "channel", pictures, []), InvalidInput, "must be given"),
        (
            lambda: keyed_bank(tiny, "channel", pictures, Secret(bytes(32))),
            InvalidInput,
            "are trained",
        ),
    ]:
        with pytest.raises(error, match=message):
            call()


def test_keyed_masks_follow_from_the_secret_alone(tiny, pictures) -> None:
    for kind in ("sign", "permutation"):
        one, same, other = (
            keyed_bank(tiny, kind, pictures, Secret(bytes([first]) * 32)) for first in (1, 1, 2)
        )
        assert one.digest() == same.digest() != other.digest()
    # 84 fair coins: outside of this once in a hundred thousand keys, and this key is fixed.
    signs = torch.cat([m.flatten() for m in keyed_bank(
        tiny, "sign", pictures, Secret(bytes(32))).masks.values()])  # fmt: skip
    assert 22 < int((signs > 0).sum()) < 62


def test_binary_masks_learn_straight_through() -> None:
    masks = TrainedMasks(MaskBank("channel-binary", {"a": torch.ones(2, 1, 1)}))
    masks.values()["a"].sum().backward()
    (raw,) = masks.parameters()
    expected = 4 * torch.sigmoid(torch.tensor(2.0)) * torch.sigmoid(torch.tensor(-2.0))
    torch.testing.assert_close(raw.grad, expected.expand(2, 1, 1))
    with torch.no_grad():
        raw[0] = -9
    masks.confine()
    assert float(raw.detach().min()) == -0.5
    assert masks.bank().masks["a"].flatten().tolist() == [0.0, 1.0]


def test_files_come_back_equal_and_damage_is_noticed(tiny, pictures, tmp_path) -> None:
    bank = random_bank(tiny, "channel", pictures)
    full = MaskBank("channel", bank.masks, {"body.stem.1": (torch.ones(4), torch.ones(4))})
    full.save(tmp_path / "key")
    again = MaskBank.load(tmp_path / "key")
    assert again.digest() == full.digest()
    assert again.sites == full.sites
    assert (tmp_path / "key").stat().st_mode & 0o077 == 0
    content = full.to_bytes()
    for wrong in (b"", b"doorward masks 1\n", content[:-1], content[:40], content + b"x"):
        with pytest.raises(BadFile, match="mask bank"):
            MaskBank.from_bytes(wrong)


CONTENT = MaskBank(
    "channel", {"a": torch.tensor([0.5, 2.0]).view(2, 1, 1)}, {"n": (torch.ones(2), torch.ones(2))}
).to_bytes()


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(CONTENT) * 8 - 1))
def test_a_flipped_bit_gives_another_bank_or_an_error_but_no_crash(bit: int) -> None:
    changed = bytearray(CONTENT)
    changed[bit // 8] ^= 1 << bit % 8
    try:
        bank = MaskBank.from_bytes(bytes(changed))
    except BadFile:
        return
    assert bank.to_bytes() != CONTENT
