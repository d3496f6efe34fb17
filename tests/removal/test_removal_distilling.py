"""Attention distillation and quantisation, against numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from doorward.data import ImageData
from doorward.errors import InvalidInput, ModelUnsuitable, UnknownName
from doorward.models import create, find_head
from doorward.removal import AttentionDistillation, Quantisation, remove
from doorward.removal.nad import attention
from doorward.removal.quantisation import QuantisedConv2d, QuantisedLinear, round_weight


def test_attention_by_hand() -> None:
    """Two channels, two positions: mean squares 12.5 and 0.5, scaled to length one."""
    maps = torch.tensor([[[[3.0, 1.0]], [[-4.0, 0.0]]]])
    expected = torch.tensor([[12.5, 0.5]]) / (12.5**2 + 0.5**2) ** 0.5
    assert torch.allclose(attention(maps), expected)
    tokens = maps.flatten(2).transpose(1, 2)
    assert torch.allclose(attention(tokens), expected)
    assert torch.allclose(attention(maps, power=1.0), F.normalize(torch.tensor([[3.5, 0.5]])))
    assert attention(torch.zeros(2, 3, 4, 4)).abs().max() == 0


def test_nad_finds_the_stages_and_has_two_phases(digits: ImageData, model: nn.Module) -> None:
    method = AttentionDistillation(epochs=2, teacher_epochs=1, lr=0.01, batch_size=12, drop=0.5)
    _, result = remove(model, digits, method)
    assert result.details["sites"] == ["body.stage1", "body.stage2", "body.stage3"]
    assert result.details["betas"] == [500.0, 1000.0, 1000.0]
    assert [entry["phase"] for entry in result.history] == ["teacher", "distil", "distil"]
    assert [entry["lr"] for entry in result.history] == pytest.approx([0.01, 0.01, 0.001])
    assert result.history[1]["attention"] > 0


def test_nad_without_weights_is_fine_tuning(digits: ImageData, model: nn.Module) -> None:
    method = AttentionDistillation(epochs=1, teacher_epochs=1, betas=(0.0,), lr=0.01)
    _, result = remove(model, digits, method)
    assert result.details["sites"] == ["body.stage3"]
    assert result.history[1]["loss"] == pytest.approx(result.history[1]["task"])


def test_nad_sites_are_checked(digits: ImageData, model: nn.Module) -> None:
    with pytest.raises(UnknownName, match=r"body\.stage1"):
        remove(model, digits, AttentionDistillation(sites=("stage1",)))
    with pytest.raises(ModelUnsuitable, match=r"'head' makes no feature maps.*body\.stem"):
        remove(model, digits, AttentionDistillation(sites=("head",)))
    with pytest.raises(InvalidInput, match="1 betas"):
        remove(model, digits, AttentionDistillation(sites=("body.stage1",) * 2, betas=(1.0,)))


@given(st.integers(2, 8), st.integers(0, 2**31))
def test_rounded_weights_are_integers_times_a_scale(bits: int, seed: int) -> None:
    weight = torch.randn(5, 3, 2, 2, generator=torch.Generator().manual_seed(seed))
    rounded, largest = round_weight(weight, bits), 2 ** (bits - 1) - 1
    for before, after in zip(weight.flatten(1), rounded.flatten(1), strict=True):
        scale = before.abs().max() / largest
        levels = after / scale
        assert torch.allclose(levels, levels.round(), atol=1e-4)
        assert float(levels.abs().max()) <= largest + 1e-4
        assert float((before - after).abs().max()) <= float(scale) * 0.5001
    assert torch.equal(round_weight(torch.zeros(2, 3), bits), torch.zeros(2, 3))


@pytest.mark.parametrize("bits", [8, 4])
def test_every_channel_has_at_most_so_many_levels(
    bits: int, digits: ImageData, model: nn.Module
) -> None:
    rounded, result = remove(model, digits, Quantisation(bits=bits))
    for layer in rounded.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            assert max(len(row.unique()) for row in layer.weight.flatten(1)) <= 2**bits - 1
    assert {type(m) for m in rounded.modules()} == {type(m) for m in model.modules()}
    assert result.history == []
    twice, _ = remove(rounded, digits, Quantisation(bits=bits))
    assert torch.allclose(find_head(twice)[1].weight, find_head(rounded)[1].weight, atol=1e-6)


def test_rounded_inputs_by_hand() -> None:
    """Range [-1, 4] in 255 steps of 1/51; what lies outside is cut off."""
    layer = QuantisedLinear(1, 1, bias=False)
    nn.init.ones_(layer.weight)
    layer.calibrate(-1.0, 4.0, torch.device("cpu"))
    inputs = torch.tensor([[0.0], [-3.0], [9.0], [1 / 51 * 0.6], [-1.0]])
    expected = torch.tensor([[0.0], [-1.0], [4.0], [1 / 51], [-1.0]])
    assert torch.allclose(layer(inputs), expected, atol=1e-6)
    layer.calibrate(0.0, 0.0, torch.device("cpu"))
    assert layer(torch.zeros(1, 1)).item() == 0


def test_rounded_activations_take_256_levels(digits: ImageData, model: nn.Module) -> None:
    plain, _ = remove(model, digits, Quantisation())
    rounded, _ = remove(model, digits, Quantisation(activations=True))
    kinds = [type(m) for m in rounded.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert set(kinds) == {QuantisedConv2d, QuantisedLinear}
    assert find_head(rounded)[0] == "head"
    seen: list[Tensor] = []
    layer = rounded.get_submodule("body.stage2.0.conv1.0")
    assert isinstance(layer, QuantisedConv2d)
    layer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        one, other = plain.eval()(digits.pixels()), rounded.eval()(digits.pixels())
    assert 0 < float((one - other).abs().max()) < 0.05 * float(one.abs().max())
    assert len(layer.rounded(seen[0]).unique()) <= 256 < len(seen[0].unique())
    assert set(rounded.state_dict()) - set(plain.state_dict()) == {
        f"{name}.{part}"
        for name, module in rounded.named_modules()
        if isinstance(module, (QuantisedConv2d, QuantisedLinear))
        for part in ("low", "scale")
    }


def test_subclasses_keep_their_own_forward() -> None:
    """They may do more than a linear layer does, so only their weights are rounded."""

    class Flat(nn.Linear):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images.flatten(1))

    images = torch.randint(0, 256, (12, 1, 16, 16), dtype=torch.uint8)
    data = ImageData(images, torch.arange(12) % 10, tuple("abcdefghij"))
    rounded, result = remove(Flat(256, 10), data, Quantisation(activations=True))
    assert isinstance(rounded, Flat)
    assert (result.details["layers"], result.details["activations"]) == (1, 0)


def test_strided_grouped_convolutions_stay_what_they_are() -> None:
    model = create("mobilenetv2", classes=10, input_shape=(1, 16, 16))
    images = torch.randint(0, 256, (8, 1, 16, 16), dtype=torch.uint8)
    data = ImageData(images, torch.arange(8), tuple("abcdefghij"))
    plain, _ = remove(model, data, Quantisation())
    rounded, _ = remove(model, data, Quantisation(activations=True))
    with torch.no_grad():
        one, other = plain.eval()(data.pixels()), rounded.eval()(data.pixels())
    assert torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1] > 0.99
