"""Channel Lipschitzness, sharpness and feature shift, against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from doorward.data import Batch, ImageData
from doorward.errors import ModelUnsuitable
from doorward.models import create, find_head
from doorward.removal import FeatureShift, LipschitzPruning, SharpnessAware, remove
from doorward.removal.clp import lipschitz
from doorward.removal.sam import _Worst, ascent


def test_lipschitz_bounds_by_hand() -> None:
    """Singular values of [[3, 0], [0, 4]] are 4 and 3; BatchNorm scales them by |-2| / 5."""
    conv, norm = nn.Conv2d(2, 2, (1, 2), bias=False), nn.BatchNorm2d(2, eps=0.0)
    with torch.no_grad():
        conv.weight.copy_(
            torch.tensor([[[[3.0, 0.0]], [[0.0, 4.0]]], [[[0.0, 0.0]], [[0.0, 1.0]]]])
        )
        norm.weight.copy_(torch.tensor([-2.0, 1.0]))
    norm.running_var = torch.tensor([25.0, 4.0])
    assert lipschitz(conv).tolist() == pytest.approx([4.0, 1.0])
    assert lipschitz(conv, norm).tolist() == pytest.approx([1.6, 0.5])
    plain = nn.BatchNorm2d(2, affine=False, eps=0.0)
    assert lipschitz(conv, plain).tolist() == pytest.approx([4.0, 1.0])
    deep = nn.Conv2d(8, 8, 3, groups=8)
    kernels = deep.weight.detach().flatten(2)
    assert torch.allclose(lipschitz(deep), kernels.norm(dim=(1, 2)), rtol=1e-5)


def test_a_loud_channel_is_silenced_where_it_is_scaled(digits: ImageData) -> None:
    model = create("resnet8", classes=10, input_shape=(1, 16, 16), width=16)
    norm = model.get_submodule("body.stage3.0.conv1.1")
    with torch.no_grad():
        norm.weight[7] = 30.0
        norm.bias[7] = 5.0
    pruned, result = remove(model, digits, LipschitzPruning())
    after = pruned.get_submodule("body.stage3.0.conv1.1")
    assert result.details["pruned_neurons"] == {"body.stage3.0.conv1.0": [7]}
    assert [after.weight[7].item(), after.bias[7].item()] == [0.0, 0.0]
    assert int((after.weight == 0).sum()) == 1
    assert result.details["channels"] == 16 * 3 + 32 * 3 + 64 * 3


def test_without_batchnorm_the_convolution_is_silenced(digits: ImageData) -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 20, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(20, 10)
    )
    with torch.no_grad():
        model[0].weight[3] = 9.0
    pruned, _ = remove(model, digits, LipschitzPruning())
    silent = (pruned[0].weight == 0).flatten(1).all(1) & (pruned[0].bias == 0)
    assert silent.nonzero().flatten().tolist() == [3]


def test_small_layers_are_never_pruned(digits: ImageData) -> None:
    """No channel of ten stands out by three deviations, however loud it is."""
    model = nn.Sequential(
        nn.Conv2d(1, 10, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(10, 10)
    )
    with torch.no_grad():
        model[0].weight[3] = 1e6
    _, result = remove(model, digits, LipschitzPruning())
    assert result.details["pruned"] == 0
    _, result = remove(model, digits, LipschitzPruning(u=2.0))
    assert result.details["pruned_neurons"] == {"0": [3]}
    with pytest.raises(ModelUnsuitable, match="no channels to prune"):
        remove(nn.Sequential(nn.Flatten(), nn.Linear(256, 10)), digits, LipschitzPruning())


def test_ascent_has_the_asked_length() -> None:
    weights = [nn.Parameter(torch.tensor([1.0, -2.0])), nn.Parameter(torch.tensor([[3.0]]))]
    slopes = (torch.tensor([1.0, 1.0]), None)
    plain = ascent(weights, slopes, 2.0, adaptive=False)
    assert plain[0].tolist() == pytest.approx([math.sqrt(2), math.sqrt(2)])
    assert plain[1].tolist() == [[0.0]]
    # Factors |w| = (1, 2): units (1, 2) of length sqrt(5), moves |w| * unit = (1, 4) * 2 / sqrt(5).
    moves = ascent(weights, slopes, 2.0, adaptive=True)
    assert moves[0].tolist() == pytest.approx([2 / math.sqrt(5), 8 / math.sqrt(5)])
    lengths = moves[0] / weights[0].detach().abs()
    assert float(lengths.norm()) == pytest.approx(2.0)
    still = ascent(weights, (torch.zeros(2), torch.zeros(1, 1)), 2.0, adaptive=True)
    assert all(float(move.detach().abs().max()) == 0 for move in still)


def test_sharpness_aware_gradient_by_hand() -> None:
    """Two logits (w x, 0), label 0: the gradient is that of the loss at the moved weight."""

    class Line(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.tensor(1.0))

        def forward(self, images: Tensor) -> Tensor:
            return torch.stack([self.w * images.flatten(), torch.zeros(len(images))], 1)

    model = Line()
    batch = Batch(torch.full((1, 1, 1, 1), 2.0), torch.tensor([0]), torch.zeros(1).long(), 0, 0, 1)
    method = SharpnessAware(rho=0.5, adaptive=False, label_smoothing=0.0)
    loss, _ = _Worst(method)(model, batch)
    loss.backward()
    # The loss log(1 + exp(-2 w)) falls with w, so the worst point is w - 0.5.
    assert float(loss.detach()) == pytest.approx(math.log(1 + math.exp(-1.0)))
    assert model.w.grad is not None
    assert float(model.w.grad) == pytest.approx(-2 / (1 + math.exp(1.0)))
    assert float(model.w.detach()) == 1.0


def test_running_statistics_move_once_per_step(digits: ImageData, model: nn.Module) -> None:
    tuned, _ = remove(model, digits, SharpnessAware(epochs=3, batch_size=24))
    counts = {
        int(tensor) for name, tensor in tuned.state_dict().items() if name.endswith("tracked")
    }
    assert counts == {3}


def test_feature_shift_turns_the_head_and_keeps_its_norm(
    digits: ImageData, model: nn.Module
) -> None:
    before = find_head(model)[1].weight.detach()
    shifted, result = remove(model, digits, FeatureShift(epochs=8, lr=0.05, alpha=1.0))
    after = find_head(shifted)[1].weight.detach()
    assert float(after.norm()) == pytest.approx(float(before.norm()), rel=1e-5)
    assert result.details["likeness"] < -0.3
    _, result = remove(model, digits, FeatureShift(epochs=8, lr=0.05, alpha=0.0))
    assert abs(result.details["likeness"]) < 0.3
    first, last = result.history[0], result.history[-1]
    assert last["task"] < first["task"]
