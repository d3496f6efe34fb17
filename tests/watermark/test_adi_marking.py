"""Mark and the attacks on it: schedules step by step, old heads, and a tiny marked model."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from doorward.bundles import Identity
from doorward.data import Augment, ImageData, load
from doorward.errors import InvalidInput, ModelUnsuitable, UnknownName
from doorward.metrics import accuracy, predict
from doorward.models import create
from doorward.removal import ADI_ATTACKS
from doorward.training import Recipe, fit
from doorward.training.schedules import learning_rate
from doorward.watermark.adi import (
    PaperKey,
    fine_tuning_attack,
    keep_head,
    overwrite,
    paper_mark,
    paper_pretrained_recipe,
    paper_recipe,
    paper_verify,
    publish,
    transfer,
    with_head,
)

SHAPE = (1, 16, 16)
SMALL = Recipe(epochs=24, batch_size=24, lr=0.2)


@pytest.fixture(scope="module")
def digits():
    return load("digits").sample(120, seed=0).resized(16)


@pytest.fixture(scope="module")
def marked(digits):
    """A tiny model with 16 triggers, 2 in each batch: 120 steps, 15 exposures each."""
    key = PaperKey.new(n=16, image_shape=SHAPE)
    model = create("resnet8", classes=10, input_shape=SHAPE, width=8, seed=0)
    result = paper_mark(model, digits, key, SMALL)
    return model, key, result


def rates(recipe, epochs):
    """The rates of the first two and the last step of each epoch, as one set each."""
    steps = recipe.steps(50_000)
    each = steps // epochs
    rate = learning_rate(recipe, steps)
    return [
        {round(rate(epoch * each + step), 12) for step in (0, 1, each - 1)}
        for epoch in range(epochs)
    ]


def test_the_schedule_from_scratch_epoch_by_epoch():
    """lr * 0.1^(epoch // 20), 30,000 steps in all, the same within each epoch."""
    recipe = paper_recipe()
    assert recipe.steps(50_000) == 30_000
    assert rates(recipe, 60) == [{round(0.1 * 0.1 ** (e // 20), 12)} for e in range(60)]
    assert (recipe.momentum, recipe.nesterov, recipe.batchnorm) == (0.9, False, "train")


def test_the_schedule_of_a_resumed_epoch_counter():
    """Saved in epoch 59: one epoch at 1e-3, twenty at 1e-4, twenty at 1e-5, nineteen at 1e-6."""
    expected = [{round(0.1 * 0.1 ** (e // 20), 12)} for e in range(59, 119)]
    assert rates(paper_pretrained_recipe(), 60) == expected
    assert expected[:2] == [{1e-3}, {1e-4}]


@pytest.mark.parametrize(("epochs", "trained"), [(10, 60), (60, 12), (1, 3), (5, 1)])
def test_other_lengths_keep_the_thirds(epochs, trained):
    recipe = paper_pretrained_recipe(epochs, trained=trained)
    drops = [3 * (trained - 1 + epoch) // trained for epoch in range(epochs)]
    found = [max(entry) for entry in rates(recipe, epochs)]
    assert found == pytest.approx([0.1 * 0.1**drop for drop in drops], rel=1e-6, abs=1e-12)


def test_imagenet_and_warm_up():
    recipe = paper_recipe(30, batch_size=256)
    assert rates(recipe, 30)[9:11] == [{0.1}, {0.01}]
    warm = paper_recipe(warmup_epochs=1)
    rate = learning_rate(warm, 30_000)
    assert rate(0) < 0.005 < rate(250) < rate(499) == pytest.approx(0.1) == rate(500)
    assert rates(warm, 60)[1:] == rates(paper_recipe(), 60)[1:]
    assert paper_recipe(augment=Augment.none()).augment == Augment()


@pytest.mark.parametrize(
    "call",
    [lambda: paper_recipe(0), lambda: paper_recipe(10, warmup_epochs=10),
     lambda: paper_recipe(warmup_epochs=-1), lambda: paper_pretrained_recipe(0),
     lambda: paper_pretrained_recipe(trained=0)],
)  # fmt: skip
def test_impossible_schedules(call):
    with pytest.raises(InvalidInput, match="epoch"):
        call()


def test_a_planted_mark_is_found_and_a_clean_model_is_not(marked, digits):
    model, key, result = marked
    ada = Identity.new("Ada")
    vk = publish(key, ada)
    clean = create("resnet8", classes=10, input_shape=SHAPE, width=8, seed=0)
    fit(clean, None, digits, SMALL)
    for suspect, accepted in ((model, True), (clean, False)):
        verdict = paper_verify(key, vk, suspect, public=ada.public, judge=[None] * 16)
        assert verdict.accepted is accepted
        assert verdict.convincing is accepted
    assert result.per_batch == 2
    assert result.exposures == 15
    assert accuracy(model, digits) > 0.9


def test_batches_mix_two_triggers_into_the_statistics(digits):
    """BatchNorm in training mode sees 42 rows, not 40."""
    seen = []
    model = create("resnet8", classes=10, input_shape=SHAPE, width=4)
    model.body.register_forward_hook(
        lambda module, inputs, output: seen.append((len(output), module.training))
    )
    key = PaperKey.new(n=10, image_shape=SHAPE)
    paper_mark(model, digits, key, paper_recipe(1, batch_size=40, augment=Augment.none()))
    assert seen.count((42, True)) == 3


def test_re_training_the_last_layer_with_still_statistics_changes_nothing(marked, digits):
    """RTLL with frozen BatchNorm: the old head's answers are the same, bit for bit."""
    model, key, _ = marked
    pictures = key.triggers()[0].float() / 255
    before = predict(model, pictures)
    attacked, result = fine_tuning_attack(
        model, digits, key, "rtll", epochs=2, lr=0.1, batchnorm="frozen", validation=digits
    )
    assert torch.equal(predict(with_head(attacked, keep_head(model)), pictures), before)
    assert (result.head, result.matches, result.matches_before) == ("old", 16, 16)
    assert not torch.equal(predict(attacked, pictures), before)
    assert result.accuracy == accuracy(attacked, digits)
    assert torch.equal(predict(model, pictures), before)


def test_statistics_drift_where_they_may(marked, digits):
    """The authors' code leaves BatchNorm in training mode: the old head's answers change."""
    model, key, _ = marked
    pictures = key.triggers()[0].float() / 255
    attacked, result = fine_tuning_attack(model, digits, key, "rtll", epochs=1)
    assert result.removal.parameters["batchnorm"] == "train"
    assert not torch.equal(
        predict(with_head(attacked, keep_head(model)), pictures), predict(model, pictures)
    )


@pytest.mark.parametrize(
    ("attack", "head"), [("ftll", "own"), ("ftal", "own"), ("rtll", "old"), ("rtal", "old")]
)
def test_which_head_answers(marked, digits, attack, head):
    """At the paper's rate a step leaves the mark; the new head of RT alone has none of it."""
    model, key, _ = marked
    attacked, result = fine_tuning_attack(model, digits, key, attack, epochs=0.5, lr=1e-3)
    assert result.head == head
    assert result.matches >= 14
    assert result.log2_p < -20
    own = with_head(attacked, keep_head(attacked))
    images, labels = key.triggers()
    matches = int((predict(own, images.float() / 255).argmax(1) == labels).sum())
    assert (matches == result.matches) if head == "own" else (matches < result.matches)


def test_a_kept_head_of_another_time(marked, digits):
    """`private_head` is what is verified with, whatever the model's head is now."""
    model, key, _ = marked
    spoilt = copy.deepcopy(model)
    nn.init.zeros_(spoilt.head.weight)
    _, result = fine_tuning_attack(
        spoilt, digits, key, "rtll", epochs=1, batchnorm="frozen", private_head=keep_head(model)
    )
    assert result.matches_before < result.matches == 16


def test_attacks_that_do_not_exist(marked, digits):
    model, key, _ = marked
    with pytest.raises(UnknownName, match="ftal"):
        fine_tuning_attack(model, digits, key, "ftxl")
    with pytest.raises(InvalidInput, match="cannot be changed"):
        fine_tuning_attack(model, digits, key, "ftal", layers="last")
    with pytest.raises(InvalidInput, match="learning"):
        fine_tuning_attack(model, digits, key, "ftal", learning=1)


def test_transfer_to_other_classes_is_judged_with_the_old_head(marked, digits):
    model, key, _ = marked
    other = load("digits").sample(60, seed=1).resized(16)
    few = ImageData(other.images, other.labels % 3, ("a", "b", "c"), "thirds")
    method = replace(ADI_ATTACKS["rtal"], epochs=1.0)
    changed, result = transfer(model, few, key, method, validation=few)
    assert changed.classes == ("a", "b", "c")
    assert (result.attack, result.head, result.matches) == ("transfer", "old", 16)
    assert result.accuracy == accuracy(changed, few)
    assert model.num_classes == 10
    with pytest.raises(InvalidInput, match="keeps the head"):
        transfer(model, few, key, ADI_ATTACKS["ftal"])
    with pytest.raises(ModelUnsuitable):
        transfer(model, few.resized(8), key, method)


def test_overwriting_marks_a_copy(marked, digits):
    model, key, _ = marked
    before = {name: value.clone() for name, value in model.state_dict().items()}
    second = PaperKey.new(n=10, image_shape=SHAPE)
    recipe = Recipe(epochs=20, batch_size=24, lr=0.1)
    pirated, result = overwrite(model, digits, second, recipe, first_key=key)
    assert result.first_before == 16
    assert result.second.mode == "pretrained"
    assert result.second.trigger_matches >= 9
    assert result.first_after is not None
    assert (result.first_log2_p == 0) == (result.first_after == 0)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not torch.equal(pirated.head.weight, model.head.weight)


class Nested(nn.Module):
    """A foreign model whose head lies deep inside."""

    def __init__(self):
        super().__init__()
        self.top = nn.ModuleDict({"out": nn.Sequential(nn.Flatten(), nn.Linear(256, 10))})

    def forward(self, images):
        return self.top["out"](images)


@pytest.mark.parametrize("make", [Nested, lambda: nn.Sequential(nn.Flatten(), nn.Linear(256, 10))])
def test_views_of_foreign_models(make):
    model, images = make().eval(), torch.rand(4, *SHAPE)
    before, head = model(images), keep_head(model)
    with torch.no_grad():
        view = with_head(model, nn.Linear(256, 3))
        assert view(images).shape == (4, 3)
        assert torch.equal(model(images), before)
        for parameter in model.parameters():
            parameter.zero_()
        assert torch.equal(with_head(model, head)(images), before)


def test_a_view_shares_the_body_and_keeps_its_head():
    model = create("resnet8", classes=10, input_shape=SHAPE, width=4).eval()
    view = with_head(model, keep_head(model)).eval()
    images = torch.rand(2, *SHAPE)
    with torch.no_grad():
        model.head.weight.zero_()
        assert model(images).std(0).max() == 0
        assert view(images).std(0).max() > 0
        for parameter in model.body.parameters():
            parameter.zero_()
        assert view(images).std(0).max() == 0
    assert model.head is not view.head


def test_heads_that_do_not_fit():
    model = create("resnet8", classes=10, input_shape=SHAPE, width=4)
    with pytest.raises(InvalidInput, match="takes 5 features"):
        with_head(model, nn.Linear(5, 10))
    with pytest.raises(InvalidInput, match="2 classes for a head with 3"):
        with_head(model, nn.Linear(16, 3), classes=("a", "b"))
    assert with_head(model, nn.Linear(16, 3)).classes == ("0", "1", "2")
    assert with_head(model, nn.Linear(16, 2), classes=("a", "b")).classes == ("a", "b")
    with pytest.raises(ModelUnsuitable, match="no head"):
        keep_head(nn.Flatten())
