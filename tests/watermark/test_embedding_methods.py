"""Every embedding method: what it leaves alone, how it resumes, what its options do."""

import copy
import dataclasses
import math
from dataclasses import fields

import pytest
import torch
import torch.distributed as dist
from pydantic import ValidationError
from torch import nn

from doorward.data import Batch, load
from doorward.errors import InvalidInput, UnknownName
from doorward.models import create
from doorward.randomness import Secret
from doorward.training import Recipe, fit
from doorward.watermark import EMBEDDINGS, App, Embedding, KeyParameters, Plain, WatermarkKey
from doorward.watermark.embedding import EmbedResult, embed
from doorward.watermark.methods import MarkStep, Slope, attach, make_embedding, name_of
from doorward.watermark.objective import MarkObjective

SHAPE = (1, 16, 16)
ODD = [(1, 9, 11), (3, 8, 8), (3, 13, 10), (1, 16, 16)]
SHORT = Recipe(max_steps=4, batch_size=16, lr=0.05, precision="fp32")


def make_key(n=6, shape=SHAPE, classes=10):
    return WatermarkKey(Secret(b"m" * 32), KeyParameters(n=n, classes=classes, image_shape=shape))


def make_batch(shape=SHAPE, rows=8, step=1, classes=10):
    draw = torch.Generator().manual_seed(step)
    return Batch(
        images=torch.rand(rows, *shape, generator=draw),
        labels=torch.randint(classes, (rows,), generator=draw),
        indices=torch.arange(rows),
        step=step,
        epoch=0,
        size_global=rows,
    )


def small(shape=SHAPE, norm=nn.BatchNorm2d, classes=10):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(shape[0], 4, 3, padding=1), norm(4), nn.ReLU(),
            nn.Conv2d(4, 4, 3, padding=1, bias=False), norm(4), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes),
        )  # fmt: skip


def group_norm(channels):
    return nn.GroupNorm(2, channels)


def method_of(name, **options):
    every = {"every": 1} if "every" in {field.name for field in fields(EMBEDDINGS[name])} else {}
    return make_embedding(name, {"warmup": 0, **every, **options})


def objective_of(name, key=None, per_batch=3, **options):
    return MarkObjective(key or make_key(), per_batch, method=method_of(name, **options))


@pytest.fixture(scope="module")
def digits():
    return load("digits").sample(48, seed=0).resized(16)


@pytest.mark.parametrize("name", EMBEDDINGS)
def test_methods_say_what_they_are(name):
    assert EMBEDDINGS.facts(name)["paper"]
    assert EMBEDDINGS.facts(name)["removal"]
    assert EMBEDDINGS.summary(name).endswith(".")
    assert name_of(EMBEDDINGS[name]()) == name
    assert EMBEDDINGS[name].from_dict(EMBEDDINGS[name]().to_dict()) == EMBEDDINGS[name]()


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, group_norm], ids=["batch", "group"])
@pytest.mark.parametrize("shape", ODD, ids=str)
@pytest.mark.parametrize("name", EMBEDDINGS)
def test_any_shape_and_nothing_but_gradients_is_left_behind(name, shape, norm):
    """Weights stay, bit for bit; running statistics move once, by the batch's own pass."""
    model = small(shape, norm).train()
    before = copy.deepcopy(model.state_dict())
    key = make_key(shape=shape)
    loss, scalars = objective_of(name, key, shift=0)(model, make_batch(shape))
    loss.backward()
    assert math.isfinite(float(loss.detach()))
    assert {"accuracy", "trigger_accuracy"} <= set(scalars)
    for parameter_name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[parameter_name])
        assert parameter.grad.isfinite().all()
    assert all(module.training for module in model.modules())
    for buffer_name, buffer in model.named_buffers():
        if buffer_name.endswith("num_batches_tracked"):
            assert buffer == 1
    with torch.no_grad():
        plain = small(shape, norm).train()
        objective_of("plain", key)(plain, make_batch(shape))
    if name in ("app", "certified"):  # the batch is the plain one's
        for ours, theirs in zip(model.buffers(), plain.buffers(), strict=True):
            torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("name", EMBEDDINGS)
def test_a_step_is_a_function_of_seed_and_step(name):
    def gradient(step, seed=0):
        model = small().train()
        method = method_of(name, shift=1, noise=0.1)
        objective = MarkObjective(make_key(), 3, method=method, seed=seed)
        batch = dataclasses.replace(make_batch(), step=step)
        torch.manual_seed(len(str(step)))  # the global generator has no say
        objective(model, batch)[0].backward()
        return torch.cat([p.grad.flatten() for p in model.parameters()])

    assert torch.equal(gradient(5), gradient(5))
    assert not torch.equal(gradient(5), gradient(6))
    assert not torch.equal(gradient(5), gradient(5, seed=1))


class Stop(Exception):
    pass


def stop(entry):
    raise Stop


@pytest.mark.parametrize("name", EMBEDDINGS)
def test_a_stopped_marking_goes_on_exactly(name, digits, tmp_path):
    recipe = dataclasses.replace(SHORT, epochs=2, max_steps=None)  # 6 steps
    method = make_embedding(name, {"shift": 1, "noise": 0.05, "warmup": 0.3})

    def train(model, **options):
        embed(model, digits, make_key(), recipe, method=method, per_batch=2, **options)

    whole, parts = small(), small()
    train(whole)
    with pytest.raises(Stop):
        train(parts, checkpoint=tmp_path, on_epoch=stop)
    train(parts, checkpoint=tmp_path)
    for one, other in zip(whole.state_dict().values(), parts.state_dict().values(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("then", "now"),
    [
        (("plain", {}), ("app", {})),
        (("app", {}), ("plain", {})),
        (("app", {}), ("app", {"eps": 0.03})),
        (("margin", {}), ("margin", {"steps": 4})),
        (("plain", {}), ("plain", {"shift": 1})),
    ],
    ids=str,
)
def test_another_method_does_not_take_up_a_checkpoint(digits, tmp_path, then, now):
    embed(small(), digits, make_key(), SHORT, method=then[0], checkpoint=tmp_path, **then[1])
    with pytest.raises(InvalidInput, match="another objective"):
        embed(small(), digits, make_key(), SHORT, method=now[0], checkpoint=tmp_path, **now[1])


def test_the_plain_objective_is_known_by_its_old_name():
    """Checkpoints of plain markings from before there were methods stay valid."""
    assert repr(MarkObjective(make_key(), 2)) == "MarkObjective()"
    plain, app = MarkObjective(make_key(), 2), objective_of("app", per_batch=2)
    assert not torch.equal(plain.get_extra_state(), app.get_extra_state())
    with pytest.raises(InvalidInput, match="another key"):
        app.set_extra_state(plain.get_extra_state())


@pytest.mark.parametrize("name", EMBEDDINGS)
def test_the_warm_up_is_plain(name):
    method = method_of(name, warmup=0.5)
    warm = MarkObjective(make_key(), 3, method=method, steps=10)
    plain = MarkObjective(make_key(), 3)
    for step, same in ((4, True), (5, name == "plain")):
        batch = make_batch(step=step)
        one, other = (float(each(small().train(), batch)[0].detach()) for each in (warm, plain))
        assert (one == other) is same


def test_a_warm_up_needs_to_know_its_end():
    with pytest.raises(InvalidInput, match="unknown number of steps"):
        MarkObjective(make_key(), 3, method=App(warmup=0.1))


@pytest.mark.parametrize("name", EMBEDDINGS)
def test_bf16_autocast(name):
    model = small().train()
    objective = objective_of(name)
    full = objective(model, make_batch())[0]
    with torch.autocast("cpu", torch.bfloat16):
        half = objective(model, make_batch())[0]
    half.backward()
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, full, rtol=0.05, atol=0.05)
    assert all(
        p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in model.parameters()
    )


@pytest.mark.parametrize("name", EMBEDDINGS)
def test_what_is_frozen_stays_out(name):
    model = small().train()
    model[0].weight.requires_grad_(False)
    seen = {}

    class Watching(MarkStep):
        def slope(self, images, targets, parameters=None):
            seen.update(parameters or {})
            return super().slope(images, targets, parameters)

    step = Watching(model, number=0, seed=0, company=make_batch().images)
    images = torch.rand(3, *SHAPE)
    method_of(name).besides(step, images, torch.tensor([1, 2, 3]))
    assert "0.weight" not in seen
    loss, _ = objective_of(name)(model, make_batch())
    loss.backward()
    assert model[0].weight.grad is None
    assert model[3].weight.grad is not None


def test_frozen_statistics_are_used_and_kept():
    model = small().train()
    model[1].eval()
    model[4].eval()
    before = copy.deepcopy(model.state_dict())
    loss, _ = objective_of("app-margin")(model, make_batch())
    assert math.isfinite(float(loss.detach()))
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert not model[1].training


@pytest.mark.parametrize("name", EMBEDDINGS)
def test_options_become_part_of_the_result(name, digits):
    key, model = make_key(), small()
    result = embed(model, digits, key, SHORT, method=name, shift=2, per_batch=2, device="cpu")
    assert result.method == name
    assert result.options == {**EMBEDDINGS[name]().to_dict(), "shift": 2}
    assert EmbedResult.from_dict(result.to_dict()) == result
    again = small()
    embed(again, digits, key, SHORT, method=make_embedding(name, result.options), per_batch=2)
    assert torch.equal(model[-1].weight, again[-1].weight)


def test_results_from_before_there_were_methods_can_be_read(digits):
    content = embed(small(), digits, make_key(), SHORT).to_dict()
    del content["method"], content["options"]
    assert EmbedResult.from_dict(content).method == "plain"
    for change in ({"method": "magic"}, {"options": {"eps": 1}}):
        with pytest.raises((InvalidInput, UnknownName, ValidationError)):
            EmbedResult.from_dict({**content, **change})


def test_clean_statistics_are_the_recipe_s_policy(digits):
    policies = {
        (given, wanted): embed(
            small(), digits, make_key(), dataclasses.replace(SHORT, batchnorm=given),
            batchnorm=wanted, per_batch=2,
        ).recipe.batchnorm
        for given in ("train", "frozen")
        for wanted in ("mixed", "clean")
    }  # fmt: skip
    assert policies == {
        ("train", "mixed"): "train", ("train", "clean"): "clean-only",
        ("frozen", "mixed"): "frozen", ("frozen", "clean"): "frozen",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"method": "ap"}, UnknownName, "app"),
        ({"method": "app", "epsilon": 1}, InvalidInput, "no option 'epsilon'.*eps"),
        ({"method": "plain", "eps": 0.1}, InvalidInput, "no option 'eps'"),
        ({"method": "app", "eps": 0.0}, InvalidInput, "eps"),
        ({"method": "app", "eps": math.nan}, InvalidInput, "eps"),
        ({"method": "app", "every": 0}, InvalidInput, "every"),
        ({"method": "app", "every": 1.5}, InvalidInput, "every"),
        ({"method": "app", "company": 1}, InvalidInput, "company"),
        ({"method": "margin", "steps": 0}, InvalidInput, "steps"),
        ({"method": "margin", "step_size": -1}, InvalidInput, "step_size"),
        ({"method": "certified", "sigma": math.inf}, InvalidInput, "sigma"),
        ({"method": "certified", "samples": 0}, InvalidInput, "samples"),
        ({"shift": -1}, InvalidInput, "shift"),
        ({"noise": 2}, InvalidInput, "noise"),
        ({"weight": -1}, InvalidInput, "weight"),
        ({"warmup": 1}, InvalidInput, "warmup"),
        ({"batchnorm": "none"}, InvalidInput, "batchnorm"),
        ({"method": App(), "eps": 0.1}, InvalidInput, "has its own"),
    ],
    ids=str,
)
def test_bad_options_are_refused_before_training(digits, arguments, error, words):
    def never(*arguments, **options):
        raise AssertionError

    with pytest.raises(error, match=words):
        embed(small(), digits, make_key(), SHORT, on_epoch=never, **arguments)


def test_a_method_of_one_s_own(digits):
    class Halved(Embedding):
        def moved(self, step, images, targets):
            return images / 2

    with pytest.raises(InvalidInput, match="not a registered"):
        embed(small(), digits, make_key(), SHORT, method=Halved())
    EMBEDDINGS.register("halved")(Halved)
    try:
        result = embed(small(), digits, make_key(), SHORT, method="halved", per_batch=2)
        assert result.method == "halved"
    finally:
        del EMBEDDINGS._entries["halved"], EMBEDDINGS._facts["halved"]


def test_shift_and_noise_change_what_is_shown():
    step = MarkStep(small(), number=3, seed=0)
    images, labels = make_key().triggers()
    images = images.float() / 255
    shown = {}
    for name, options in {"as is": {}, "shift": {"shift": 2}, "noise": {"noise": 0.2}}.items():
        shown[name], answers = Plain(**options).examples(step, images, labels, make_batch())
        assert torch.equal(answers, labels)
        assert shown[name].min() >= 0
        assert shown[name].max() <= 1
    assert torch.equal(shown["as is"], images)
    windows = [
        nn.functional.pad(images[0], (2, 2, 2, 2))[:, down : down + 16, right : right + 16]
        for down in range(5)
        for right in range(5)
    ]
    assert any(torch.equal(shown["shift"][0], window) for window in windows)
    assert not torch.equal(shown["shift"], images)
    inside = (images > 0.45) & (images < 0.55)  # too far from 0 and 1 to be cut off often
    assert (shown["noise"] - images)[inside].std() == pytest.approx(0.2, abs=0.04)


def test_weight_is_what_a_trigger_counts():
    model, batch = small().eval(), make_batch()  # the same statistics for any batch
    objective = {weight: objective_of("plain", weight=weight) for weight in (0.0, 1.0, 3.0)}
    loss = {weight: float(each(model, batch)[0].detach()) for weight, each in objective.items()}
    assert loss[3.0] - loss[0.0] == pytest.approx(3 * (loss[1.0] - loss[0.0]), rel=1e-4)


def test_attached_gradients_are_added_to_ordinary_ones():
    weight = nn.Parameter(torch.tensor([2.0]))
    slope = Slope(torch.tensor(5.0), [torch.tensor([7.0])], torch.zeros(1, 1)).scaled(2)
    loss = weight.square().sum() + attach(slope, {"w": weight})
    assert float(loss.detach()) == 14
    (loss / 2).backward()
    assert weight.grad.item() == pytest.approx((4 + 14) / 2)
    both = slope + slope
    assert (float(both.loss), both.gradient[0].item()) == (20, 28)


def test_other_weights_take_clean_statistics_at_those_weights():
    """Scaling a convolution before BatchNorm changes nothing if statistics follow it."""
    model, batch = small().train(), make_batch()
    step = MarkStep(model, number=0, seed=0, company=batch.images)
    images, labels = torch.rand(3, *SHAPE), torch.tensor([1, 2, 3])
    scaled = {**step.parameters, "3.weight": 5 * step.parameters["3.weight"]}
    one, other = step.slope(images, labels), step.slope(images, labels, scaled)
    torch.testing.assert_close(one.logits, other.logits, rtol=1e-3, atol=1e-3)
    alone = step.slope(images[:1], labels[:1])  # statistics do not come from the triggers
    torch.testing.assert_close(alone.logits, one.logits[:1])


@pytest.mark.parametrize("name", EMBEDDINGS)
def test_processes_share_the_work(name, monkeypatch):
    """Weighted as the loop does it, two processes' losses are that of one.

    The network has no BatchNorm: its statistics over processes are tested in the slow test.
    """
    whole, key = make_batch(rows=7), make_key()
    options = {} if name != "blended" else {"faintest": 1.0}  # carriers are each process's own
    model = small(norm=group_norm).train()
    objective = objective_of(name, key, **options)
    step = MarkStep(model, number=whole.step, seed=0)
    expected = objective(model, whole)[0]
    images, labels = key.triggers()
    rows = objective.chosen(whole.step)
    shown = method_of(name, **options).moved(step, images[rows].float() / 255, labels[rows])
    gradient = torch.cat([g.flatten() for g in step.slope(shown, labels[rows]).gradient])
    total = torch.zeros(())
    for rank in range(2):
        monkeypatch.setattr(dist, "is_initialized", lambda: True)
        monkeypatch.setattr(dist, "get_rank", lambda rank=rank: rank)
        monkeypatch.setattr(dist, "get_world_size", lambda: 2)
        monkeypatch.setattr(dist, "all_reduce", lambda flat: flat.copy_(gradient))
        part = dataclasses.replace(
            whole,
            images=whole.images[rank::2],
            labels=whole.labels[rank::2],
            indices=whole.indices[rank::2],
        )
        total = total + objective(model, part)[0] * len(part) / 7
    torch.testing.assert_close(total, expected)


def test_a_process_without_triggers_takes_part(monkeypatch):
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_rank", lambda: 1)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "all_reduce", lambda flat: None)
    for name in EMBEDDINGS:
        loss, scalars = objective_of(name, per_batch=1)(small().train(), make_batch())
        assert math.isfinite(float(loss.detach()))
        assert math.isnan(scalars["trigger_accuracy"])


@pytest.mark.slow
@pytest.mark.parametrize("name", EMBEDDINGS)
def test_compiled_models(name):
    model, batch = small().train(), make_batch()
    expected = objective_of(name)(model, batch)[0]
    compiled = torch.compile(small().train(), backend="eager")
    torch.testing.assert_close(objective_of(name)(compiled, batch)[0], expected)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["resnet20", "mobilenetv2", "convnext-atto", "vit-tiny"])
@pytest.mark.parametrize("name", EMBEDDINGS)
def test_architectures_of_the_zoo(name, architecture, digits):
    model = create(architecture, classes=10, input_shape=SHAPE)
    result = embed(model, digits, make_key(), dataclasses.replace(SHORT, max_steps=2), method=name)
    assert math.isfinite(result.fit.final["loss"])


def test_history_tells_how_triggers_do_at_other_weights(digits):
    objective = MarkObjective(make_key(), 2, method=App(every=2, warmup=0))
    recipe = dataclasses.replace(SHORT, max_steps=3)
    final = fit(small(), objective, digits, recipe).final
    assert 0 <= final["changed_accuracy"] <= 1
    plain = fit(small(), MarkObjective(make_key(), 2), digits, recipe).final
    assert "changed_accuracy" not in plain
