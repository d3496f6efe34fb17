"""Tracing from answers: the guilty are named, alone or together, and nobody else ever is."""

import math

import pytest
import torch

from doorward.errors import InvalidInput, ModelUnsuitable
from doorward.randomness import Secret
from doorward.watermark.key import KeyParameters, WatermarkKey
from doorward.watermark.tracing.code import NO_ANSWER, TracingCode
from doorward.watermark.tracing.register import Register
from doorward.watermark.tracing.result import TraceResult
from doorward.watermark.tracing.tracing import trace, trace_answers

SHAPE = (1, 8, 8)


def fixed_key(n=100, classes=10, seed=0):
    parameters = KeyParameters(n=n, classes=classes, image_shape=SHAPE)
    return WatermarkKey(Secret(bytes([seed]) * 32), parameters)


KEY = fixed_key()
CODE = TracingCode(KEY)


@pytest.fixture(scope="module")
def register():
    made = Register.of(KEY)
    for number in range(40):
        made = made.sell(f"buyer {number}", payload=1000 + 37 * number)
    return made


def mixed(payloads, seed, right=1.0, code=CODE):
    """Answers of a collusion that picks one member's answer for every trigger, with errors."""
    draw = torch.Generator().manual_seed(seed)
    n, classes = code.key.n, code.key.classes
    words = torch.stack([code.encode(payload) for payload in payloads])
    who = torch.randint(len(payloads), (n,), generator=draw)
    answers = words[who, torch.arange(n)]
    wrong = torch.rand(n, generator=draw) >= right
    noise = torch.randint(1, classes, (n,), generator=draw)
    return torch.where(wrong, (answers + noise) % classes, answers)


@pytest.mark.parametrize("right", [1.0, 0.7, 0.5])
def test_the_buyer_of_a_worn_copy_is_named(register, right):
    for seed, sale in enumerate(register.sales[:10]):
        result = trace_answers(mixed([sale.payload], seed, right), CODE, register)
        assert (result.buyer, result.payload) == (sale.buyer, sale.payload)
        assert len(result.found) == 1
        found = result.found[0]
        assert found.matches > found.runner_up
        assert found.confidence > 0.99
        assert found.log2_p <= -20


def test_no_innocent_model_is_traced_to_anybody(register):
    """200 unrelated models, and every constant one; the rule allows one in a million."""
    draw = torch.Generator().manual_seed(0)
    suspects = [torch.full((100,), label) for label in range(10)]
    for _ in range(200):
        weights = torch.rand(10, generator=draw) ** 3  # prefers some classes, as networks do
        suspects.append(torch.multinomial(weights, 100, replacement=True, generator=draw))
    results = [trace_answers(answers, CODE, register) for answers in suspects]
    assert not any(result.traced for result in results)
    assert not any(result.buyer or result.buyers for result in results)
    # The bound is a p-value: at level 1/4, no more than a quarter (and a margin) is found.
    loose = sum(result.best.log2_p <= -2 for result in results)
    assert loose <= 210 / 4 + 3 * math.sqrt(210 * 3 / 16)


def test_p_values_of_many_keys_are_no_smaller_than_uniform():
    answers = torch.arange(24) % 4
    best = []
    for seed in range(200):
        code = TracingCode(fixed_key(n=24, classes=4, seed=seed), bits=4)
        best.append(code.decode(answers).log2_p)
    for level in (1, 2, 4):
        share = sum(value <= -level for value in best) / 200
        assert share <= 2**-level + 3 * math.sqrt(2**-level / 200)
    assert min(best) < -1  # some luck there is, or the test could not fail


@pytest.mark.parametrize("size", [2, 3])
def test_colluders_are_all_named_and_nobody_else(register, size):
    for seed in range(8):
        guilty = register.sales[seed : seed + size]
        result = trace_answers(mixed([s.payload for s in guilty], seed), CODE, register)
        assert set(result.buyers) == {sale.buyer for sale in guilty}
        assert sum(found.matches for found in result.found) <= 100


def test_of_many_colluders_none_or_some_are_named_but_no_other(register):
    for seed in range(8):
        guilty = register.sales[:12]
        result = trace_answers(mixed([s.payload for s in guilty], seed), CODE, register)
        assert set(result.buyers) <= {sale.buyer for sale in guilty}


def test_a_second_payload_is_tested_on_what_the_first_leaves_over(register):
    first, second = register.sales[:2]
    answers = CODE.encode(first.payload)
    answers[60:] = CODE.encode(second.payload)[60:]
    result = trace_answers(answers, CODE, register)
    agree = int((CODE.encode(first.payload) == answers).sum())
    assert [found.matches for found in result.found] == [agree, 100 - agree]
    assert [found.tested for found in result.found] == [100, 100 - agree]


def test_buyers_who_share_a_block_with_the_guilty_are_left_alone():
    """In codes of several blocks, a payload may share half of its labels with another."""
    key = fixed_key()
    register = Register.of(key, bits=32)
    register = register.sell("Acme", payload=0xAAAA_0001).sell("Bolt", payload=0xAAAA_0002)
    code = register.code(key)
    result = trace_answers(code.encode(0xAAAA_0002), code, register)
    assert result.buyers == ("Bolt",)
    mostly = code.encode(0xAAAA_0002)
    mostly[::3] = (mostly[::3] + 1) % 10
    assert trace_answers(mostly, code, register).buyers == ("Bolt",)


def test_a_payload_that_nobody_bought_accuses_nobody(register):
    result = trace_answers(CODE.encode(5), CODE, register)
    assert (result.traced, result.payload, result.buyer, result.buyers) == (True, 5, None, ())
    assert "not in the register" in result.explain()
    assert trace_answers(CODE.encode(5), CODE).found[0].name == "payload 5"


def test_silence_is_left_out(register):
    sale = register.sales[3]
    answers = CODE.encode(sale.payload)
    answers[:45] = NO_ANSWER
    result = trace_answers(answers, CODE, register)
    assert (result.buyer, result.unanswered) == (sale.buyer, 45)
    assert (result.found[0].matches, result.found[0].tested) == (55, 55)
    assert "no answer to 45" in result.explain()
    nothing = trace_answers(torch.full((100,), NO_ANSWER), CODE, register)
    assert (nothing.traced, nothing.best.matches) == (False, 0)


def table_of(answers, key=KEY):
    """A suspect that knows these answers, asked in any order."""
    images = key.triggers()[0].float() / 255
    known = {image.numpy().tobytes(): int(a) for image, a in zip(images, answers, strict=True)}
    return lambda batch: torch.tensor([known[image.numpy().tobytes()] for image in batch])


def test_any_suspect_is_asked_in_any_order(register, inference_server):
    sale = register.sales[7]
    suspect = table_of(CODE.encode(sale.payload))
    assert trace(suspect, KEY, register).buyer == sale.buyer
    assert trace(suspect, KEY, bits=16).payload == sale.payload
    server = inference_server(suspect, image_shape=SHAPE)
    result = trace(f"{server.url}/v2/models/model", KEY, register)
    assert (result.buyer, result.found[0].matches) == (sale.buyer, 100)
    assert result.suspect["kind"] == "http"


def test_results_survive_json_and_speak_plainly(register):
    found = trace_answers(mixed([1000, 1037], 1), CODE, register)
    none = trace_answers(torch.zeros(100, dtype=torch.int64), CODE, register)
    for result in (found, none):
        assert TraceResult.from_dict(result.to_dict()) == result
    assert found.to_dict()["found"][0]["payload"] in ("3e8", "40d")
    assert found.explain().startswith("TRACED to buyer ")
    assert "several copies" in found.explain()
    assert "not who let it out" in found.explain()
    assert none.explain().startswith("NOT TRACED.")
    assert "Nobody is accused" in none.explain()


@pytest.mark.parametrize("alpha", [0.0, 1.0, -1.0, math.nan])
def test_a_level_lies_between_0_and_1(register, alpha):
    with pytest.raises(InvalidInput, match="alpha"):
        trace_answers(torch.zeros(100, dtype=torch.int64), CODE, register, alpha=alpha)


def never(images):
    raise AssertionError("the suspect was asked")


def test_a_rule_that_cannot_be_met_is_refused_before_anybody_is_asked():
    key = fixed_key(n=10)
    with pytest.raises(InvalidInput, match="never be met"):
        trace(never, key, bits=16)
    with pytest.raises(InvalidInput, match="cannot spell"):
        trace(never, key, bits=64)
    assert trace(table_of(torch.zeros(10, dtype=torch.int64), key), key, bits=8).found == ()


def test_the_register_of_another_key_is_refused_before_anybody_is_asked(register):
    with pytest.raises(InvalidInput, match="another key"):
        trace(never, fixed_key(seed=1), register)


@pytest.mark.parametrize(
    "suspect",
    [
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 7)),
        lambda images: torch.full((len(images),), 10),
        lambda images: torch.zeros(len(images)),
        lambda images: torch.zeros(3, dtype=torch.int64),
        lambda images: "no",
    ],
)
def test_an_unsuitable_suspect_is_refused(register, suspect):
    with pytest.raises(ModelUnsuitable):
        trace(suspect, KEY, register)
