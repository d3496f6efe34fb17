"""The lock on digits: holds without masks, opens with them, and with no others."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from doorward.data import Batch, ImageData
from doorward.errors import InvalidInput, UnknownName
from doorward.metrics import accuracy, attack_outcome
from doorward.models import create
from doorward.trading import AntiRecovery, Locking, LockResult, TriggerTuning, lock
from doorward.trading.disturbances import blurred, compressed, disturbed, noisy, shifted
from doorward.trading.masks import MaskBank, TrainedMasks, identity_bank
from doorward.trading.masks.wrong import half_entries, half_sites, quantised, shuffled
from doorward.trading.measuring import acceptance_test
from doorward.trading.objectives import LockObjective
from doorward.trading.recovery import simulate
from doorward.training import Recipe
from doorward.triggers import Additive, AllToOne, Backdoor, Patch

PATCH = Backdoor(Patch(size=3), AllToOne(0))


def network(width: int = 4, seed: int = 0) -> nn.Module:
    return create("resnet8", classes=10, input_shape=(1, 16, 16), width=width, seed=seed)


def batch_of(data: ImageData, count: int = 24, step: int = 0) -> Batch:
    part = data.sample(count, seed=step)
    return Batch(
        images=part.pixels(), labels=part.labels, indices=torch.arange(count), step=step, epoch=0,
        size_global=count,
    )  # fmt: skip


def test_the_trial_obeys_and_the_unlocked_model_does_not(shop) -> None:
    outcome = shop.lock.result.outcome
    assert outcome.trial_accuracy > 0.9
    assert outcome.trial_attack_success > 0.95
    assert outcome.unlocked_accuracy > 0.9
    assert outcome.unlocked_attack_success < 0.05
    assert outcome.restored_accuracy > 0.9
    low, high = outcome.unlocked_interval
    assert low <= outcome.unlocked_attack_success <= high
    assert LockResult.from_dict(shop.lock.result.to_dict()) == shop.lock.result


def test_folded_applied_and_read_back_are_one_model(shop, tmp_path) -> None:
    made = shop.lock
    made.bank.save(tmp_path / "key")
    images = shop.test.pixels()[:64]
    answers = [
        model(images)
        for model in (
            made.unlocked(),
            made.bank.apply(made.trial),
            MaskBank.load(tmp_path / "key").fold(made.trial),
        )
    ]
    torch.testing.assert_close(answers[0], answers[1], atol=1e-3, rtol=1e-3)
    assert torch.equal(answers[0], answers[2])
    assert made.result.key_bytes == (tmp_path / "key").stat().st_size


def test_other_masks_do_not_unlock(shop) -> None:
    made = shop.lock
    other = TrainedMasks(identity_bank(made.trial, "channel", shop.test.pixels()[:1]))
    other.scatter(1.0, seed=99)
    for wrong in (other.bank(made.bank.statistics), shuffled(made.bank, 5)):
        model = wrong.fold(made.trial)
        usable = accuracy(model, shop.test) > made.result.outcome.trial_accuracy - 0.05
        obeys = attack_outcome(model, shop.test, made.backdoor).attack_success > 0.5
        assert obeys or not usable


def test_the_two_modes_keep_their_own_statistics(small_digits) -> None:
    train, _ = small_digits
    model = network().train()
    images = train.pixels()[:1]
    masks = TrainedMasks(identity_bank(model, "channel", images))
    masks.scatter(1.0, seed=0)
    objective = LockObjective(model, masks, PATCH, Locking(), steps=10, seed=0)
    name, layer = "body.stage1.0.conv1.1", model.body.stage1[0].conv1[1]
    loss, scalars = objective(model, batch_of(train))
    loss.backward()
    assert set(scalars) == {
        "trial_accuracy", "trial_attack", "unlocked_accuracy", "restored_accuracy",
    }  # fmt: skip
    mean, _ = objective.statistics()[name]
    assert not torch.allclose(mean, layer.running_mean)
    # One pass each, not two on one set: the trial's counter says so, and its mean is a tenth of
    # the batch's own (momentum 0.1 from zero).
    assert int(layer.num_batches_tracked) == 1
    before = layer.running_mean.clone()
    with objective._unlocked(model, masks.values()):
        model(train.pixels()[:8])
    assert torch.equal(layer.running_mean, before)
    assert not torch.equal(objective.statistics()[name][0], mean * 0)


def test_with_one_set_of_statistics_the_masked_pass_only_reads_it(small_digits) -> None:
    train, _ = small_digits
    model = network().train()
    masks = TrainedMasks(identity_bank(model, "channel", train.pixels()[:1]))
    settings = Locking(statistics="trial")
    objective = LockObjective(model, masks, PATCH, settings, steps=10, seed=0)
    before = {n: b.clone() for n, b in model.named_buffers()}
    with objective._unlocked(model, masks.values()):
        model(train.pixels()[:8])
    assert all(torch.equal(b, before[n]) for n, b in model.named_buffers())
    assert model.body.stem[1].training
    assert objective.bank().statistics == {}


def test_the_gradient_is_that_of_the_four_losses(small_digits) -> None:
    """Without masks to step (keyed ones) the loss is a plain sum: compare with autograd."""
    train, _ = small_digits
    model = network().eval()  # no statistics move, so that it can be computed twice
    signs = {n: -m for n, m in identity_bank(model, "sign", train.pixels()[:1]).masks.items()}
    masks = TrainedMasks(MaskBank("sign", signs))
    settings = Locking(attack=0.7, unlocked=1.5, restored=0.4, statistics="trial")
    objective = LockObjective(model, masks, PATCH, settings, steps=10, seed=0)
    batch = batch_of(train)
    loss, _ = objective(model, batch)
    model.zero_grad()
    loss.backward()
    found = [p.grad.clone() for p in model.parameters()]
    _, marked, rows = objective._marked(batch, 0.0, _draw(objective, batch))
    unlocked = objective.bank().apply(model)
    for name, parameter in model.named_parameters():
        inner = name.rpartition(".")
        path = f"{inner[0]}.inner" if f"{inner[0]}" in signs else inner[0]
        setattr(unlocked.get_submodule(path), inner[2], parameter)
    entropy = nn.functional.cross_entropy
    truth = batch.labels[rows]
    plain = (
        entropy(model(batch.images), batch.labels)
        + 0.7 * entropy(model(marked), truth * 0)
        + 1.5 * (entropy(unlocked(batch.images), batch.labels)
                 + 0.4 * entropy(unlocked(marked), truth))
    )  # fmt: skip
    torch.testing.assert_close(loss.detach(), plain.detach())
    for gradient, wanted in zip(
        found, torch.autograd.grad(plain, list(model.parameters())), strict=True
    ):
        torch.testing.assert_close(gradient, wanted, atol=1e-5, rtol=1e-4)


def _draw(objective: LockObjective, batch: Batch) -> torch.Generator:
    from doorward.randomness import generator

    return generator(objective.seed, "lock", batch.step)


def test_all_options_together_train_and_are_repeatable(small_digits) -> None:
    train, test = small_digits
    settings = Locking(
        pcgrad=True,
        trigger=TriggerTuning(start=0.3, end=0.1, settle=0.5),
        anti_recovery=AntiRecovery(begin=0.0, every=1, steps=2),
    )
    recipe = Recipe(max_steps=4, batch_size=24, lr=0.02, precision="fp32")
    made = []
    for _ in "ab":
        model = network()
        backdoor = Backdoor(Additive(height=16, width=16, channels=1), AllToOne(3))
        made.append(
            lock(model, train, recipe, test=test, backdoor=backdoor, masks="channel-binary",
                 settings=settings)
        )  # fmt: skip
    first, second = made
    assert first.bank.digest() == second.bank.digest()
    for a, b in zip(first.trial.parameters(), second.trial.parameters(), strict=True):
        assert torch.equal(a, b)
    trigger = first.backdoor.trigger
    assert trigger.eps == pytest.approx(0.1)
    assert float(trigger.pattern.abs().max()) <= 0.1 + 1e-6
    assert torch.equal(trigger.pattern, second.backdoor.trigger.pattern)
    assert not torch.equal(trigger.pattern, Additive(height=16, width=16, channels=1).pattern)
    assert {"agreement", "kept_loss"} <= set(first.result.fit.final)
    assert first.result.strength.linf <= 0.1 + 1e-6
    assert first.result.backdoor["trigger"]["eps"] == trigger.eps


@pytest.mark.parametrize("buyer", ["fine-tune", "prune", "masks"])
def test_a_simulated_buyer_leaves_the_model_alone(small_digits, buyer: str) -> None:
    train, _ = small_digits
    model = network().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    batch = batch_of(train)
    loss, slope = simulate(
        model, buyer, AntiRecovery(steps=2), clean=(batch.images, batch.labels),
        marked=(batch.images, batch.labels * 0), draw=torch.Generator().manual_seed(0),
    )  # fmt: skip
    assert torch.isfinite(loss)
    assert all(part is not None and torch.isfinite(part).all() for part in slope)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training


def test_a_buyer_who_does_nothing_gives_the_gradient_itself(small_digits) -> None:
    train, _ = small_digits
    model = network().train()
    batch = batch_of(train)
    _, slope = simulate(
        model, "fine-tune", AntiRecovery(steps=1, lr=(1e-12, 1e-12)),
        clean=(batch.images, batch.labels), marked=(batch.images, batch.labels * 0),
        draw=torch.Generator().manual_seed(0),
    )  # fmt: skip
    model(batch.images)  # the statistics that the buyer's one step leaves behind
    model.eval()
    loss = nn.functional.cross_entropy(model(batch.images), batch.labels * 0)
    for found, wanted in zip(
        slope, torch.autograd.grad(loss, list(model.parameters())), strict=True
    ):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


def test_what_cannot_be_is_refused_before_training(small_digits) -> None:
    train, test = small_digits
    recipe = Recipe(max_steps=1, batch_size=32)
    for wrong, error, message in [
        ({"masks": "chanel"}, UnknownName, "channel"),
        ({"sites": ["body.stem.9"]}, UnknownName, "body.stem"),
        ({"sites": ["body.stem.0"]}, InvalidInput, "would be undone"),
        ({"backdoor": Backdoor(Patch(), AllToOne(10))}, InvalidInput, "class 10"),
        ({"settings": Locking(trigger=TriggerTuning())}, InvalidInput, "cannot be learnt"),
        ({"devices": 2}, InvalidInput, "masks of its own"),
    ]:
        model = network()
        before = [p.clone() for p in model.parameters()]
        with pytest.raises(error, match=message):
            lock(model, train, recipe, test=test, **{"backdoor": PATCH, **wrong})
        assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    for changed in ({"ema": 0.9}, {"compile": True}):
        with pytest.raises(InvalidInput, match=next(iter(changed))):
            lock(network(), train, dataclasses.replace(recipe, **changed), test=test,
                 backdoor=PATCH)  # fmt: skip
    for wrong in ({"start": 0.1, "end": 0.2}, {"end": 0}):
        with pytest.raises((InvalidInput, ValueError)):
            TriggerTuning(**wrong)
    with pytest.raises((InvalidInput, ValueError)):
        Locking(limits=(0.0, 0.5))
    with pytest.raises((InvalidInput, ValueError)):
        AntiRecovery(lr=(0.1, 0.01))


def test_disturbances_by_hand() -> None:
    image = torch.zeros(1, 1, 8, 8)
    image[0, 0, 2, 3] = 1
    assert shifted(image, 1, -2)[0, 0].nonzero().tolist() == [[3, 1]]
    assert float(blurred(image, 0.5).sum()) == pytest.approx(1, abs=1e-5)
    assert float(blurred(image, 0.5)[0, 0, 2, 3]) == pytest.approx(0.6193, abs=1e-3)
    draw = torch.Generator().manual_seed(0)
    noise = noisy(torch.full((1, 1, 64, 64), 0.5), 0.1, draw) - 0.5
    assert float(noise.std()) == pytest.approx(0.1, rel=0.1)
    # A flat picture has one coefficient in each block: 8 (255 v - 128), rounded to 16 levels.
    flat = torch.full((1, 3, 11, 9), 0.7)
    level = 8 * (255 * 0.7 - 128) / 16
    expected = (16 * round(level) / 8 + 128) / 255
    torch.testing.assert_close(compressed(flat, 50), torch.full_like(flat, expected))
    soft = torch.rand(1, 3, 11, 9).requires_grad_(True)
    compressed(soft, 75).sum().backward()
    torch.testing.assert_close(soft.grad, torch.ones_like(soft), atol=1e-3, rtol=1e-3)
    many = disturbed(torch.rand(9, 1, 16, 16), draw)
    assert many.shape == (9, 1, 16, 16)
    assert 0 <= float(many.min()) <= float(many.max()) <= 1


def test_the_acceptance_test_counts_and_decides(shop) -> None:
    made = shop.lock
    good = acceptance_test(made.unlocked(), shop.test, made.backdoor, bound=0.12)
    outcome = made.result.outcome
    assert good.accepted
    assert good.attack == (
        round(outcome.unlocked_attack_success * outcome.attack_images), outcome.attack_images,
    )  # fmt: skip
    assert good.right[0] == round(outcome.unlocked_accuracy * len(shop.test))
    locked = acceptance_test(made.trial, shop.test, made.backdoor, bound=0.12)
    assert not locked.accepted
    assert locked.p_value < 1e-12
    for wrong in ({"bound": 0.0}, {"bound": 1.0}, {"bound": 0.1, "alpha": 0.5}):
        with pytest.raises(InvalidInput, match="bound"):
            acceptance_test(made.trial, shop.test, made.backdoor, **wrong)


def test_controls_by_hand() -> None:
    values = torch.arange(8, dtype=torch.float32).view(8, 1, 1) / 4
    bank = MaskBank("channel", dict.fromkeys("abcd", values))
    assert len(half_sites(bank, 0).sites) == 2
    assert len(half_sites(bank.kept("a"), 0).sites) == 1
    mixed = half_entries(bank, 0)
    for mask in mixed.masks.values():
        assert bool(((mask == values) | (mask == 1)).all())
    assert mixed.digest() != bank.digest() != shuffled(bank, 0).digest()
    assert quantised(bank, 16).masks["a"].flatten().tolist() == pytest.approx(
        values.flatten().tolist(), abs=1e-4
    )
    assert len(quantised(bank, 2).masks["a"].unique()) == 4
    flat = MaskBank("channel", {"a": torch.ones(3, 1, 1)})
    assert quantised(flat, 8).masks["a"].flatten().tolist() == [1, 1, 1]
    for call in (
        lambda: quantised(bank, 0),
        lambda: quantised(MaskBank("sign", {"a": torch.ones(3, 1, 1)}), 4),
        lambda: half_entries(MaskBank("permutation", {"a": torch.arange(3).view(3, 1, 1)}), 0),
    ):
        with pytest.raises(InvalidInput):
            call()
