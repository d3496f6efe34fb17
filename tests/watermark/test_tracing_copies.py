"""Copies of a small digits model: marked in a second, accurate, and traced after tampering."""

import copy
import dataclasses

import pytest
import torch

from doorward.data import load
from doorward.errors import InvalidInput, ModelUnsuitable
from doorward.metrics import accuracy
from doorward.models import create
from doorward.randomness import Secret
from doorward.removal import FineTuning, MagnitudePruning, Quantisation, remove
from doorward.training import recipe_for
from doorward.watermark.embedding import embed
from doorward.watermark.key import KeyParameters, WatermarkKey
from doorward.watermark.tracing import (
    BuyerMark,
    CopyResult,
    Register,
    TracingCode,
    copy_recipe,
    mark_copies,
    trace,
)
from doorward.watermark.triggerset import TriggerSet
from doorward.watermark.verification import count_matches

SHAPE = (1, 16, 16)
PAYLOADS = (0x1234, 0xBEEF)


def fixed_key(n=48, seed=0, **parameters):
    parameters = KeyParameters(n=n, **{"classes": 10, "image_shape": SHAPE, **parameters})
    return WatermarkKey(Secret(bytes([seed]) * 32), parameters)


KEY = fixed_key()
OWNER = fixed_key(n=20, seed=9)


@pytest.fixture(scope="module")
def digits():
    return load("digits").resized(16), load("digits", split="test").resized(16)


@pytest.fixture(scope="module")
def recipe():
    trained_with = dataclasses.replace(recipe_for("digits", "resnet8"), epochs=4.0)
    return trained_with, dataclasses.replace(copy_recipe(trained_with), batch_size=64)


@pytest.fixture(scope="module")
def base(digits, recipe):
    """A model with the owner's mark."""
    model = create("resnet8", classes=10, input_shape=SHAPE, width=8)
    embed(model, digits[0], OWNER, recipe[0], per_batch=8)
    return model


@pytest.fixture(scope="module")
def sold(base, digits, recipe):
    """Two copies, which keep the owner's mark, and the register that they are in."""
    register = Register.of(KEY).sell("Acme", payload=PAYLOADS[0]).sell("Bolt", payload=PAYLOADS[1])
    before = copy.deepcopy(base.state_dict())
    copies = list(
        mark_copies(
            base, digits[0], register.code(KEY), PAYLOADS, recipe[1],
            per_batch=32, keep=[OWNER], validation=digits[1],
        )
    )  # fmt: skip
    assert all(torch.equal(value, before[name]) for name, value in base.state_dict().items())
    return register, copies


def test_copies_carry_their_marks_and_keep_the_owners(sold, base):
    for made, payload in zip(sold[1], PAYLOADS, strict=True):
        result = made.result
        assert isinstance(made.mark, TriggerSet)
        assert made.mark.payload == result.payload == payload
        assert result.matches == count_matches(made.mark, made.model) >= 44
        assert result.log2_p < -100
        assert result.kept == (count_matches(OWNER, made.model),)
        assert result.kept[0] >= 17
        assert result.embedding.n == 68
        assert CopyResult.from_dict(result.to_dict()) == result
    assert count_matches(BuyerMark(TracingCode(KEY), PAYLOADS[0]), base) < 20


def test_copies_stay_accurate(sold, base, digits):
    for made in sold[1]:
        assert made.result.embedding.accuracy_before == accuracy(base, digits[1]) > 0.9
        assert made.result.embedding.accuracy == accuracy(made.model, digits[1])
        assert made.result.embedding.accuracy > made.result.embedding.accuracy_before - 0.06


ATTACKS = {
    "nothing": None,
    "fine-tuning": FineTuning(lr=0.002, epochs=2.0, batch_size=64),
    "fine-tuning hard": FineTuning(lr=0.02, epochs=1.0, batch_size=64),
    "pruning": MagnitudePruning(share=0.3),
    "quantisation": Quantisation(),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_leaked_copy_is_traced_to_its_buyer(sold, digits, attack):
    register, copies = sold
    for made, buyer in zip(copies, ("Acme", "Bolt"), strict=True):
        leak = made.model
        if ATTACKS[attack] is not None:
            leak, _ = remove(leak, digits[1], ATTACKS[attack])
        result = trace(leak, KEY, register)
        assert (result.buyers, result.payload) == ((buyer,), made.mark.payload)
        assert result.found[0].confidence > 0.99


def test_models_that_are_no_copies_are_traced_to_nobody(sold, base):
    stranger = create("resnet8", classes=10, input_shape=SHAPE, width=8, seed=5)
    assert not trace(base, KEY, sold[0]).traced
    assert not trace(stranger, KEY, sold[0]).traced
    other = fixed_key(seed=7)
    assert not trace(sold[1][0].model, other).traced


def test_two_colluders_who_answer_in_turn_are_both_named(sold):
    register, (first, second) = sold[0], sold[1]

    def either(images):
        """Which of the two answers follows from the image, as a careful pair would do it."""
        one, other = first.model(images).argmax(1), second.model(images).argmax(1)
        return torch.where((images.sum((1, 2, 3)) * 255).round() % 2 == 0, one, other)

    assert set(trace(either, KEY, register).buyers) == {"Acme", "Bolt"}


def test_an_average_of_two_copies_accuses_no_third(sold):
    first, second = (made.model for made in sold[1])
    mean = copy.deepcopy(first)
    state = {
        name: (value + second.state_dict()[name]) / 2 if value.is_floating_point() else value
        for name, value in first.state_dict().items()
    }
    mean.load_state_dict(state)
    assert set(trace(mean, KEY, sold[0]).buyers) <= {"Acme", "Bolt"}


def test_the_same_payload_gives_the_same_copy(base, digits, recipe):
    short = dataclasses.replace(recipe[1], max_steps=3)
    code = TracingCode(KEY)
    runs = [
        [made.model.head.weight for made in mark_copies(base, digits[0], code, order, short)]
        for order in ([1, 2], [2, 1])
    ]
    assert torch.equal(runs[0][0], runs[1][1])
    assert torch.equal(runs[0][1], runs[1][0])
    assert not torch.equal(runs[0][0], runs[0][1])


def test_copies_are_made_one_at_a_time(base, digits, recipe):
    asked = []

    def payloads():
        for payload in (1, 2):
            asked.append(payload)
            yield payload

    short = dataclasses.replace(recipe[1], max_steps=1)
    copies = mark_copies(base, digits[0], TracingCode(KEY), payloads(), short)
    assert asked == []
    next(copies)
    assert asked == [1]


def test_a_copys_recipe_follows_the_models(recipe):
    trained_with = recipe[0]
    short = copy_recipe(dataclasses.replace(trained_with, batchnorm="frozen", seed=4))
    assert (short.max_steps, short.batchnorm, short.seed) == (100, "frozen", 4)
    assert short.augment == trained_with.augment
    assert short.lr < trained_with.lr
    assert copy_recipe(trained_with).batchnorm == "clean-only"
    assert short.steps(images=10) == short.steps(images=10**6) == 100


def test_marks_hide_their_payload():
    mark = BuyerMark(TracingCode(KEY), 0xBEEF)
    assert "beef" not in repr(mark).lower()
    assert str(0xBEEF) not in repr(mark)
    guesses = {BuyerMark(TracingCode(fixed_key(seed=1)), 0xBEEF).commitment()}
    guesses |= {BuyerMark(TracingCode(KEY, bits=17), 0xBEEF).commitment()}
    assert mark.commitment() not in guesses
    assert mark.commitment() == BuyerMark(TracingCode(KEY), 0xBEEF).commitment()


def test_what_does_not_fit_is_refused_before_training(base, digits, recipe):
    train, short = digits[0], recipe[1]

    def make(model=base, source=train, key=KEY, **options):
        return mark_copies(model, source, TracingCode(key), [1], short, **options)

    with pytest.raises(InvalidInput, match="images"):
        make(source=train.resized(8))
    with pytest.raises(InvalidInput, match="7 classes"):
        make(key=fixed_key(classes=7))
    with pytest.raises(InvalidInput, match="a mark to keep"):
        make(keep=[fixed_key(image_shape=(1, 8, 8))])
    with pytest.raises(InvalidInput, match="69 triggers per batch"):
        make(keep=[OWNER], per_batch=69)
    with pytest.raises(InvalidInput, match="0 triggers per batch"):
        make(per_batch=0)
    with pytest.raises(ModelUnsuitable):
        make(model=create("resnet8", classes=7, input_shape=SHAPE, width=4))
    with pytest.raises(InvalidInput, match="no payload"):
        next(mark_copies(base, train, TracingCode(KEY), [2**16], short))
