import copy

import pytest
import torch
from torch import nn

from doorward.errors import InvalidInput
from doorward.training import clean_rows
from doorward.training.batchnorm import batchnorm_policy, train_mode

MASK = torch.tensor([True, False, True, True, False, True])
LAYERS = {
    "1d": (lambda **options: nn.BatchNorm1d(3, **options), (6, 3)),
    "1d-sequence": (lambda **options: nn.BatchNorm1d(3, **options), (6, 3, 5)),
    "2d": (lambda **options: nn.BatchNorm2d(3, **options), (6, 3, 4, 2)),
    "3d": (lambda **options: nn.BatchNorm3d(3, **options), (6, 3, 2, 2, 2)),
}


def rows_of(shape, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(shape, generator=generator) * 3 + 1
    images[~MASK] += 100  # the dirty rows are far away
    return images.to(dtype)


def scrambled(layer):
    if layer.affine:
        with torch.no_grad():
            layer.weight.copy_(torch.tensor([0.5, -1.0, 2.0]))
            layer.bias.copy_(torch.tensor([1.0, 0.0, -3.0]))
    return layer


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize(
    "options", [{}, {"affine": False}, {"momentum": None}, {"track_running_stats": False}]
)
def test_clean_rows_come_out_as_if_they_were_alone(kind, options):
    make, shape = LAYERS[kind]
    ours, plain = scrambled(make(**options)), scrambled(make(**options))
    images = rows_of(shape)
    for _ in range(2):
        with clean_rows(ours, MASK):
            output = ours(images)
        torch.testing.assert_close(output[MASK], plain(images[MASK]), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(dict(ours.named_buffers()), dict(plain.named_buffers()))
    assert output[~MASK].abs().min() > output[MASK].abs().max()  # the same statistics, far away


def test_dirty_rows_by_hand():
    layer = nn.BatchNorm1d(1, affine=False, eps=0.0)
    with clean_rows(layer, torch.tensor([True, True, False])):
        output = layer(torch.tensor([[0.0], [4.0], [10.0]]))  # mean 2, deviation 2
    assert output.flatten().tolist() == [-1.0, 1.0, 4.0]
    assert layer.running_mean.item() == pytest.approx(0.2)
    assert layer.running_var.item() == pytest.approx(0.9 + 0.1 * 8)  # unbiased: 8 of 2 rows


def test_gradients_are_those_of_the_formula():
    layer = scrambled(nn.BatchNorm2d(3)).double()
    images = rows_of((6, 3, 2, 2), torch.float64).requires_grad_()

    def formula(x):
        mean = x[MASK].mean((0, 2, 3), keepdim=True)
        variance = x[MASK].var((0, 2, 3), unbiased=False, keepdim=True)
        scale, shift = (t.view(1, 3, 1, 1) for t in (layer.weight, layer.bias))
        return (x - mean) / (variance + layer.eps).sqrt() * scale + shift

    with clean_rows(layer, MASK):
        ours = layer(images)
    weights = torch.arange(ours.numel()).view_as(ours).double().sin()
    wanted = (images, layer.weight, layer.bias)
    mine = torch.autograd.grad((ours * weights).sum(), wanted)
    theirs = torch.autograd.grad((formula(images) * weights).sum(), wanted)
    torch.testing.assert_close(mine, theirs, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gradients_are_those_of_finite_differences(kind, layout):
    make, shape = LAYERS[kind]
    layer, images = scrambled(make()).double(), rows_of(shape, torch.float64)
    if images.ndim == 4:
        images = images.contiguous(memory_format=layout)

    def normalised(x):
        with clean_rows(layer, MASK):
            return layer(x)

    assert torch.autograd.gradcheck(normalised, images.requires_grad_())


def test_a_network_of_one_type_throughout_is_taken():
    images = rows_of((6, 3, 4, 4), torch.bfloat16).requires_grad_()
    layer = nn.BatchNorm2d(3).to(torch.bfloat16)
    with clean_rows(layer, MASK):
        output = layer(images)
    output.float().square().sum().backward()
    assert output.dtype == images.grad.dtype == layer.weight.grad.dtype == torch.bfloat16


def test_bf16_rows_stay_bf16_and_statistics_fp32():
    layer = nn.BatchNorm2d(3)
    with clean_rows(layer, MASK):
        output = layer(rows_of((6, 3, 4, 4), torch.bfloat16))
    assert output.dtype == torch.bfloat16
    assert layer.running_mean.dtype == torch.float32


def test_all_rows_clean_is_the_layer_itself():
    ours, plain, images = nn.BatchNorm2d(3), nn.BatchNorm2d(3), rows_of((6, 3, 4, 2))
    with clean_rows(ours, torch.ones(6, dtype=torch.bool)):
        assert torch.equal(ours(images), plain(images))


def test_no_clean_row_falls_back_to_running_statistics():
    layer, images = nn.BatchNorm2d(3), rows_of((6, 3, 4, 2))
    layer(images)
    before = copy.deepcopy(layer.state_dict())
    with clean_rows(layer, torch.zeros(6, dtype=torch.bool)):
        output = layer(images)
    torch.testing.assert_close(output, copy.deepcopy(layer).eval()(images))
    torch.testing.assert_close(dict(layer.state_dict()), dict(before))


def test_no_clean_row_and_no_running_statistics_is_an_error():
    layer = nn.BatchNorm2d(3, track_running_stats=False)
    nothing = torch.zeros(6, dtype=torch.bool)
    with clean_rows(layer, nothing), pytest.raises(InvalidInput, match="no row"):
        layer(rows_of((6, 3, 4, 2)))


def test_evaluation_mode_is_left_alone():
    layer, images = nn.BatchNorm2d(3).eval(), rows_of((6, 3, 4, 2))
    with clean_rows(layer, MASK):
        inside = layer(images)
    assert torch.equal(inside, layer(images))


def test_blocks_nest_and_leave_nothing_behind():
    model, images = nn.Sequential(nn.BatchNorm2d(3)), rows_of((6, 3, 4, 2))
    everything = torch.ones(6, dtype=torch.bool)
    plain = copy.deepcopy(model)(images)
    with clean_rows(model, everything):
        with clean_rows(model, MASK):
            model(images)
        torch.testing.assert_close(model(images), plain)
    with pytest.raises(ZeroDivisionError), clean_rows(model, MASK):
        _ = 1 / 0
    assert "forward" not in model[0].__dict__


@pytest.mark.parametrize(
    "mask", [torch.ones(6), torch.ones(6, 1, dtype=torch.bool), torch.ones(5, dtype=torch.bool)]
)
def test_masks_that_do_not_fit(mask):
    layer = nn.BatchNorm2d(3)
    with pytest.raises(InvalidInput, match="mask of clean rows"), clean_rows(layer, mask):
        layer(rows_of((6, 3, 4, 2)))


@pytest.mark.parametrize("policy", ["train", "frozen", "clean-only"])
def test_inside_a_run_the_policy_decides(policy):
    ours, plain, images = nn.BatchNorm2d(3), nn.BatchNorm2d(3), rows_of((6, 3, 4, 2))
    train_mode(ours, policy)
    with batchnorm_policy(ours, policy, shared=False), clean_rows(ours, MASK):
        output = ours(images)
    if policy == "train":
        assert torch.equal(output, plain(images))
    elif policy == "frozen":
        assert torch.equal(output, plain.eval()(images))
        assert ours.running_mean.tolist() == [0, 0, 0]
    else:
        torch.testing.assert_close(output[MASK], plain(images[MASK]), rtol=1e-4, atol=1e-5)
