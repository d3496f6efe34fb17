"""Objectives, averages, optimisers and the ledger, each on its own."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from doorward.data import Batch
from doorward.errors import InvalidInput
from doorward.training import CrossEntropy, Recipe, Sum
from doorward.training.ema import Ema
from doorward.training.ledger import Fault, Ledger
from doorward.training.optimizers import load_optimizer, make_optimizer, optimizer_state


class Fixed(nn.Module):
    """Answers given logits whatever the images."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, images):
        return self.logits


def batch_of(labels):
    n = len(labels)
    return Batch(torch.zeros(n, 1, 2, 2), torch.tensor(labels), torch.arange(n), 0, 0, n)


def test_cross_entropy_by_hand():
    # softmax of (ln 3, 0) is (3/4, 1/4)
    model = Fixed([[math.log(3), 0.0], [math.log(3), 0.0]])
    loss, scalars = CrossEntropy()(model, batch_of([0, 1]))
    assert loss.item() == pytest.approx(-(math.log(3 / 4) + math.log(1 / 4)) / 2)
    assert scalars["accuracy"].item() == 0.5
    smoothed, _ = CrossEntropy(0.2)(model, batch_of([0, 0]))
    assert smoothed.item() == pytest.approx(-(0.9 * math.log(3 / 4) + 0.1 * math.log(1 / 4)))


def test_the_loss_is_fp32_whatever_the_logits_are():
    loss, _ = CrossEntropy()(Fixed([[1.0, 2.0]]).bfloat16(), batch_of([0]))
    assert loss.dtype == torch.float32


def test_sum_weighs_and_names_its_parts():
    both = Sum(task=(1.0, CrossEntropy()), smooth=(0.5, CrossEntropy(0.2)))
    model, batch = Fixed([[1.0, 0.0]]), batch_of([0])
    loss, scalars = both(model, batch)
    expected = [CrossEntropy(s)(model, batch)[0] for s in (0.0, 0.2)]
    assert loss.item() == pytest.approx((expected[0] + 0.5 * expected[1]).item())
    assert set(scalars) == {"task", "task.accuracy", "smooth", "smooth.accuracy"}
    assert not scalars["task"].requires_grad
    assert both.state_dict() == {}


def test_sum_keeps_the_state_of_its_parts():
    class Stateful(CrossEntropy):
        calls = 7

        def state_dict(self):
            return {"calls": self.calls}

        def load_state_dict(self, state):
            self.calls = state["calls"]

    state = Sum(a=(1.0, Stateful()), b=(1.0, CrossEntropy())).state_dict()
    assert state == {"a": {"calls": 7}}
    part = Stateful()
    part.calls = 0
    Sum(a=(1.0, part), b=(1.0, CrossEntropy())).load_state_dict(state)
    assert part.calls == 7


@pytest.mark.parametrize("make", [lambda: CrossEntropy(1.0), lambda: CrossEntropy(-0.1), Sum])
def test_objectives_refuse_nonsense(make):
    with pytest.raises(InvalidInput):
        make()


def test_average_of_weights_and_batchnorm_statistics():
    model = nn.Sequential(nn.Linear(1, 2), nn.BatchNorm1d(2))
    average = Ema(model, decay=0.75)
    expected = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for step in range(20):
        with torch.no_grad():
            model[0].weight.add_(1.0)
            model[1](model[0](torch.randn(4, 1)))
        average.update(step)
        decay = min(0.75, (1 + step) / (10 + step))
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                expected[name] = decay * expected[name] + (1 - decay) * tensor
            else:
                expected[name] = tensor.clone()
    own = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with average.applied():
        torch.testing.assert_close(dict(model.state_dict()), expected)
    assert all(torch.equal(own[name], tensor) for name, tensor in model.state_dict().items())
    average.apply()
    torch.testing.assert_close(dict(model.state_dict()), expected)


@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw"])
def test_optimisers_are_pytorch_s_own(kind):
    recipe = Recipe(optimizer=kind, lr=0.1, weight_decay=0.01, momentum=0.8, betas=(0.8, 0.9))
    ours, plain = nn.Linear(3, 2), nn.Linear(3, 2)
    plain.load_state_dict(ours.state_dict())
    theirs = {
        "sgd": lambda p: torch.optim.SGD(p, 0.1, momentum=0.8, weight_decay=0.01, nesterov=True),
        "adam": lambda p: torch.optim.Adam(p, 0.1, betas=(0.8, 0.9), weight_decay=0.01),
        "adamw": lambda p: torch.optim.AdamW(p, 0.1, betas=(0.8, 0.9), weight_decay=0.01),
    }[kind](plain.parameters())
    for model, optimizer in ((ours, make_optimizer(ours, recipe)), (plain, theirs)):
        for step in range(4):
            F.mse_loss(model(torch.full((1, 3), 1.0 + step)), torch.ones(1, 2)).backward()
            optimizer.step()
            optimizer.zero_grad()
    torch.testing.assert_close(dict(ours.state_dict()), dict(plain.state_dict()))


def test_weight_decay_can_leave_out_vectors():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    recipe = Recipe(weight_decay=0.1, decay_bias_and_norm=False)
    groups = make_optimizer(model, recipe).param_groups
    assert [(g["weight_decay"], [p.ndim for p in g["params"]]) for g in groups] == [
        (0.1, [4]),
        (0.0, [1, 1, 1]),
    ]


def test_nothing_to_train_is_an_error():
    with pytest.raises(InvalidInput, match="no parameter to train"):
        make_optimizer(nn.Linear(1, 1).requires_grad_(False), Recipe())


def test_optimizer_state_comes_back_in_the_memory_format_of_the_weights():
    model = nn.Conv2d(4, 4, 3).to(memory_format=torch.channels_last)
    optimizer = make_optimizer(model, Recipe())
    model(torch.ones(1, 4, 8, 8)).sum().backward()
    optimizer.step()
    kept = {
        position: {name: value.contiguous() for name, value in entry.items()}
        for position, entry in optimizer_state(optimizer).items()
    }
    other = make_optimizer(model, Recipe())
    load_optimizer(other, kept)
    momentum = other.state[model.weight]["momentum_buffer"]
    assert momentum.stride() == model.weight.stride()
    assert torch.equal(momentum, optimizer.state[model.weight]["momentum_buffer"])


def noted(*losses, divergence=10.0):
    ledger = Ledger(divergence)
    for step, loss in enumerate(losses):
        ledger.add(step, 2, torch.tensor(loss), {})
    ledger.settle()
    return ledger


def test_means_weigh_by_rows():
    ledger = Ledger(10.0)
    ledger.add(0, 3, torch.tensor(1.0), {"x": 1})
    ledger.add(1, 1, torch.tensor(5.0), {"x": torch.tensor(3.0)})
    assert len(ledger) == 2
    ledger.settle()
    assert ledger.means() == {"loss": 2.0, "x": 1.5}
    assert len(ledger) == 0
    ledger.reset()
    assert ledger.means() == {}


@pytest.mark.parametrize(
    ("losses", "fault"),
    [
        ([1.0, 2.0, 3.0], None),
        ([1.0, float("inf"), 1.0], 1),
        ([float("nan")], 0),
        ([0.01] + [9.0] * 50, None),  # below ten times 1
        ([1.0] + [200.0] * 5, 1),  # smoothed: 0.9 + 20
        ([-500.0] + [4000.0] * 100, None),  # the size of the first loss counts
    ],
)
def test_faults(losses, fault):
    found = noted(*losses).fault
    assert (found is None) == (fault is None)
    if fault is not None:
        assert found.step == fault


def test_a_scalar_that_is_nan_is_no_fault_and_left_out():
    ledger = Ledger(10.0)
    ledger.add(0, 1, torch.tensor(1.0), {"x": float("nan"), "y": torch.tensor(2.0)})
    ledger.settle()
    assert ledger.fault is None
    assert ledger.means() == {"loss": 1.0, "y": 2.0}


def test_the_ledger_resumes_its_judgement():
    ledger = Ledger(10.0)
    ledger.load_state_dict(noted(1.0, 1.0).state_dict())
    for step in range(2, 40):
        ledger.add(step, 1, torch.tensor(11.0), {})
    ledger.settle()
    assert isinstance(ledger.fault, Fault)
