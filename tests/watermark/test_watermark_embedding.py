"""Embedding: which triggers go where, the loss by hand, and that marks take."""

import dataclasses

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from doorward.data import Batch, load
from doorward.errors import InvalidInput, ModelUnsuitable
from doorward.metrics import accuracy
from doorward.models import create
from doorward.randomness import Secret
from doorward.training import Recipe, fit, recipe_for
from doorward.watermark.embedding import EmbedResult, embed
from doorward.watermark.key import KeyParameters, WatermarkKey
from doorward.watermark.objective import MarkObjective, pretrained_recipe, triggers_per_batch

SHAPE = (1, 16, 16)
RECIPE = Recipe(epochs=10, batch_size=64, lr=0.1, weight_decay=5e-4, precision="fp32", seed=0)


def small_batch(rows=6, step=0, size_global=None):
    draw = torch.Generator().manual_seed(step)
    return Batch(
        images=torch.rand(rows, *SHAPE, generator=draw),
        labels=torch.randint(10, (rows,), generator=draw),
        indices=torch.arange(rows),
        step=step,
        epoch=0,
        size_global=size_global or rows,
    )


@pytest.fixture(scope="module")
def key():
    return WatermarkKey(Secret(b"k" * 32), KeyParameters(n=20, image_shape=SHAPE))


@pytest.fixture(scope="module")
def digits():
    return load("digits").sample(600, seed=0).resized(16), load("digits", split="test").resized(16)


@pytest.fixture
def linear():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(256, 10))


@pytest.mark.parametrize("k", [1, 2, 3, 7, 20])
def test_triggers_come_in_passes(key, k):
    objective = MarkObjective(key, k)
    stream = torch.cat([objective.chosen(step) for step in range(60)])
    assert len(stream) == 60 * k
    whole = stream[: len(stream) // 20 * 20].view(-1, 20)
    assert (whole.sort(1).values == torch.arange(20)).all()
    if len(whole) > 1:
        assert not torch.equal(whole[0], whole[1])


def test_the_choice_depends_on_seed_and_step_alone(key):
    one, other = MarkObjective(key, 3), MarkObjective(key, 3)
    for step in (7, 2, 11):
        one.chosen(step)
    assert torch.equal(one.chosen(40), other.chosen(40))
    assert not torch.equal(one.chosen(40), MarkObjective(key, 3, seed=1).chosen(40))


def test_loss_is_the_mean_over_clean_rows_and_triggers(key, linear):
    objective, batch = MarkObjective(key, 2), small_batch(step=5)
    loss, scalars = objective(linear, batch)
    images, labels = key.triggers()
    rows = objective.chosen(5)
    everything = torch.cat([batch.images, images[rows].float() / 255])
    expected = F.cross_entropy(linear(everything), torch.cat([batch.labels, labels[rows]]))
    torch.testing.assert_close(loss, expected)
    hits = (linear(batch.images).argmax(1) == batch.labels).float().mean()
    assert scalars["accuracy"] == hits


def test_label_smoothing_spares_the_triggers(key, linear):
    objective, batch = MarkObjective(key, 2, label_smoothing=0.3), small_batch()
    images, labels = key.triggers()
    rows = objective.chosen(0)
    task = F.cross_entropy(linear(batch.images), batch.labels, label_smoothing=0.3, reduction="sum")
    mark = F.cross_entropy(linear(images[rows].float() / 255), labels[rows], reduction="sum")
    torch.testing.assert_close(objective(linear, batch)[0], (task + mark) / 8)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_processes_share_the_triggers_of_a_step(key, linear, monkeypatch, k):
    """Weighted by their rows, as the loop does, the processes' losses are that of one process."""
    whole = small_batch(rows=7)
    expected = MarkObjective(key, k)(linear, whole)[0]
    total = torch.zeros(())
    for rank in range(2):
        monkeypatch.setattr(dist, "is_initialized", lambda: True)
        monkeypatch.setattr(dist, "get_rank", lambda rank=rank: rank)
        monkeypatch.setattr(dist, "get_world_size", lambda: 2)
        part = dataclasses.replace(
            whole,
            images=whole.images[rank::2],
            labels=whole.labels[rank::2],
            indices=whole.indices[rank::2],
        )
        total = total + MarkObjective(key, k)(linear, part)[0] * len(part) / 7
    torch.testing.assert_close(total, expected)


def test_clean_only_statistics_do_not_see_the_triggers(key, digits):
    """Every clean image has mean 30/255, so five steps of momentum 0.1 leave a known average."""
    stripes = torch.zeros_like(digits[0].images)
    stripes[..., ::2] = 60
    clean = dataclasses.replace(digits[0], images=stripes)
    means = {}
    for policy in ("train", "clean-only"):
        model = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(256, 10))
        recipe = dataclasses.replace(RECIPE, max_steps=5, batchnorm=policy, lr=0.001)
        fit(model, MarkObjective(key, 10), clean, recipe)
        means[policy] = float(model[0].running_mean)
    expected = 30 / 255 * (1 - 0.9**5)
    assert means["clean-only"] == pytest.approx(expected, rel=1e-5)
    assert means["train"] > expected * 1.1


def test_a_checkpoint_does_not_hold_the_triggers(key):
    state = MarkObjective(key, 2).state_dict()
    assert sum(tensor.numel() for tensor in state.values()) == 32


def test_resuming_with_another_key_is_refused(key, digits, tmp_path):
    def model():
        return create("resnet8", classes=10, input_shape=SHAPE, width=4)

    recipe = dataclasses.replace(RECIPE, max_steps=3)
    first = model()
    one = embed(first, digits[0], key, recipe, checkpoint=tmp_path)
    again = model()
    assert embed(again, digits[0], key, recipe, checkpoint=tmp_path).fit.steps == one.fit.steps
    assert torch.equal(first.head.weight, again.head.weight)
    other = WatermarkKey.new(n=20, image_shape=SHAPE)
    with pytest.raises(InvalidInput, match="another key"):
        embed(model(), digits[0], other, recipe, checkpoint=tmp_path)


@pytest.fixture(scope="module")
def plain(digits):
    model = create("resnet8", classes=10, input_shape=SHAPE, width=8)
    fit(model, None, digits[0], RECIPE)
    return model


def test_marking_from_scratch(key, digits, plain):
    train, test = digits
    model = create("resnet8", classes=10, input_shape=SHAPE, width=8)
    result = embed(model, train, key, RECIPE, validation=test, validate="end")
    assert result.trigger_matches == 20
    assert result.trigger_accuracy == 1
    assert result.log2_p == pytest.approx(-66.4, abs=0.1)
    assert result.accuracy == accuracy(model, test)
    assert result.accuracy > accuracy(plain, test) - 0.03
    assert result.accuracy_before is None
    assert result.per_batch == 12  # 60 exposures of 20 triggers in 100 steps
    assert result.exposures == 60
    assert EmbedResult.from_dict(result.to_dict()) == result


def test_marking_a_trained_model(key, digits, plain):
    train, test = digits
    model = create("resnet8", classes=10, input_shape=SHAPE, width=8)
    model.load_state_dict(plain.state_dict())
    recipe = pretrained_recipe(RECIPE, images=len(train), n=20)
    assert recipe.lr == pytest.approx(0.025)
    result = embed(model, train, key, recipe, mode="pretrained", validation=test)
    assert result.accuracy_before == accuracy(plain, test)
    assert result.accuracy > result.accuracy_before - 0.03
    assert result.trigger_matches >= 18
    assert result.fit.steps == 100


def test_marking_is_reproducible(key, digits):
    weights = []
    for _ in range(2):
        model = create("resnet8", classes=10, input_shape=SHAPE, width=4)
        embed(model, digits[0], key, dataclasses.replace(RECIPE, max_steps=4))
        weights.append(model.head.weight)
    assert torch.equal(*weights)


@pytest.mark.parametrize(
    ("n", "steps", "batch_size", "k"),
    [
        (100, 30_000, 100, 2),  # the paper: 60 epochs of 500 steps, 600 exposures
        (100, 2352, 256, 3),  # CIFAR-10, 12 epochs
        (100, 276, 64, 16),  # digits: limited to a quarter of the batch
        (3, 10, 64, 3),  # never more than there are
        (1, 10_000, 64, 1),
    ],
)
def test_automatic_number_of_triggers(n, steps, batch_size, k):
    assert triggers_per_batch(n, steps, batch_size) == k


def test_the_default_recipe_has_a_warm_up():
    """The paper's lr 0.1 from the first step ends in NaN (two of three published attempts)."""
    for data in ("digits", "cifar10"):
        recipe = recipe_for(data, "resnet8")
        warm = recipe.warmup if recipe.warmup is not None else recipe.schedule == "onecycle"
        assert warm or recipe.clip_norm


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"mode": "overwrite"}, InvalidInput, "from-scratch"),
        ({"per_batch": 0}, InvalidInput, "0 triggers per batch"),
        ({"per_batch": 21}, InvalidInput, "the key has 20"),
        ({"key": WatermarkKey.new(n=5, image_shape=(1, 32, 32))}, InvalidInput, "32, 32"),
        ({"key": WatermarkKey.new(n=5, classes=9, image_shape=SHAPE)}, InvalidInput, "9 classes"),
        ({"model": create("resnet8", classes=7, input_shape=SHAPE)}, ModelUnsuitable, "7"),
        ({"model": create("resnet8", classes=10)}, (ModelUnsuitable, InvalidInput), "16"),
    ],
    ids=["mode", "k too small", "k too large", "shape", "classes", "model classes", "model shape"],
)
def test_bad_input_is_refused_before_training(key, digits, change, error, words):
    arguments = {
        "model": create("resnet8", classes=10, input_shape=SHAPE, width=4),
        "source": digits[0],
        "key": key,
        "recipe": RECIPE,
    } | change
    with pytest.raises(error, match=words):
        embed(**arguments)
