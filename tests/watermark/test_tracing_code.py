"""The code of buyers' marks: drawn as documented, uniform, and decoded through errors."""

import hashlib
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from doorward.errors import InvalidInput
from doorward.randomness import Secret
from doorward.watermark.key import KeyParameters, WatermarkKey
from doorward.watermark.tracing.code import BLOCK_BITS, NO_ANSWER, TracingCode

SHAPE = (1, 8, 8)


def fixed_key(n=60, classes=10, seed=0):
    parameters = KeyParameters(n=n, classes=classes, image_shape=SHAPE)
    return WatermarkKey(Secret(bytes([seed]) * 32), parameters)


CODE = TracingCode(fixed_key())
LONG = TracingCode(fixed_key(n=256), bits=128)
TINY = TracingCode(fixed_key(n=12, classes=3), bits=6)


def labels_of(code, trigger, count):
    """The documented derivation, word by word."""
    key = code.key
    facts = bytes.fromhex(key.commitment()) + key.parameters.canonical()
    context = hashlib.sha256(facts + code.blocks.to_bytes(2, "big")).digest()
    seed = key.secret_of(trigger).mac(b"tracing code" + context)
    stream = hashlib.shake_256(seed).digest(8 * count + 400)
    limit = 2**32 - 2**32 % key.classes
    words = [int.from_bytes(stream[i : i + 4], "big") for i in range(0, len(stream), 4)]
    return [word % key.classes for word in words if word < limit][:count]


@pytest.mark.parametrize("classes", [2, 10, 43, 256, 257, 1000, 2**20])
def test_labels_are_drawn_as_documented(classes):
    code = TracingCode(fixed_key(n=12, classes=classes), bits=8)
    expected = [labels_of(code, trigger, 256) for trigger in range(12)]
    for payload in (0, 1, 200, 255):
        assert code.encode(payload).tolist() == [column[payload] for column in expected]


def test_rejected_words_are_left_out():
    """With 3 * 2^30 classes of 2^32 words, one in four is rejected; a key allows 2^20, so patch."""
    code = TracingCode(fixed_key(n=12, classes=10), bits=8)
    object.__setattr__(code.key.parameters, "classes", 3 * 2**30)
    drawn = code._draw(0)
    assert drawn.max() >= 2**31
    assert drawn.tolist() == labels_of(code, 0, 256)


def test_a_code_never_changes():
    """Marks that were sold must be decoded by every later version."""
    assert CODE.encode(0xBEEF).tolist()[:12] == [4, 4, 8, 8, 4, 6, 2, 8, 7, 4, 4, 7]


def test_longer_payloads_go_on_where_shorter_ones_end():
    longer = TracingCode(CODE.key, bits=18)
    assert torch.equal(longer.encode(0xBEEF), CODE.encode(0xBEEF))
    assert longer.blocks == TracingCode(CODE.key, bits=BLOCK_BITS).blocks == 1


@pytest.mark.parametrize("classes", [2, 10, 43])
def test_labels_are_uniform_over_payloads_and_pairs(classes):
    code = TracingCode(fixed_key(n=20, classes=classes), bits=16)
    columns = [code._column(i).astype(np.int64) for i in range(20)]
    for first, second in itertools.pairwise(columns):
        pairs = np.bincount(first * classes + second, minlength=classes**2)
        expected = 2**16 / classes**2
        statistic = ((pairs - expected) ** 2 / expected).sum()
        degrees = classes**2 - 1
        assert abs(statistic - degrees) < 6 * (2 * degrees) ** 0.5


def test_marks_of_two_keys_have_nothing_in_common():
    other = TracingCode(fixed_key(seed=1))
    agree = int((other.encode(7) == CODE.encode(7)).sum())
    assert agree < 20  # 6 by chance; 20 has probability 1e-6


@given(payload=st.integers(0, 2**16 - 1), errors=st.sets(st.integers(0, 59), max_size=25),
       wrong=st.integers(1, 9))  # fmt: skip
@settings(max_examples=30, deadline=None)
def test_a_payload_survives_25_wrong_labels_of_60(payload, errors, wrong):
    answers = CODE.encode(payload)
    answers[list(errors)] = (answers[list(errors)] + wrong) % 10
    found = CODE.decode(answers)
    assert (found.payload, found.matches, found.tested) == (payload, 60 - len(errors), 60)


@given(payload=st.integers(0, 2**128 - 1), seed=st.integers(0, 2**32))
@settings(max_examples=15, deadline=None)
def test_a_long_payload_survives_ten_wrong_labels_in_every_block(payload, seed):
    answers = LONG.encode(payload)
    draw = torch.Generator().manual_seed(seed)
    for block in range(8):
        places = torch.randperm(32, generator=draw)[:10] * 8 + block
        answers[places] = (answers[places] + 1) % 10
    found = LONG.decode(answers)
    assert (found.payload, found.matches) == (payload, 256 - 80)
    assert found.log2_p < -20


@given(bits=st.integers(1, 256), data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_payload_is_the_join_of_its_blocks(bits, data):
    code = TracingCode(fixed_key(n=100, classes=1000), bits=bits)
    payload = data.draw(st.integers(0, 2**bits - 1))
    assert sum(code.block_bits) == bits
    assert max(code.block_bits) - min(code.block_bits) <= 1
    assert code.join(list(code.split(payload))) == payload


@given(answers=st.lists(st.integers(NO_ANSWER, 2), min_size=12, max_size=12))
@settings(max_examples=25, deadline=None)
def test_decoding_is_the_search_over_all_payloads(answers):
    given_labels = torch.tensor(answers)
    matches = [int((TINY.encode(payload) == given_labels).sum()) for payload in range(64)]
    found = TINY.decode(given_labels)
    assert found.payload == int(np.argmax(matches))
    assert (found.matches, found.runner_up) == tuple(sorted(matches, reverse=True)[:2])


def test_only_tested_triggers_count():
    answers = CODE.encode(99)
    tested = torch.zeros(60, dtype=torch.bool)
    tested[:30] = True
    answers[30:] = CODE.encode(100)[30:]
    first, second = CODE.decode(answers, tested), CODE.decode(answers, ~tested)
    assert (first.payload, first.matches, first.tested) == (99, 30, 30)
    assert (second.payload, second.matches, second.tested) == (100, 30, 30)


def test_more_than_255_triggers_are_counted_right():
    code = TracingCode(fixed_key(n=600, classes=2), bits=4)
    assert code.decode(code.encode(5)).matches == 600


def test_a_codebook_too_large_to_keep_is_drawn_again(monkeypatch):
    monkeypatch.setattr("doorward.watermark.tracing.code._CACHED_BYTES", 3 * 2**16)
    code = TracingCode(fixed_key())
    assert code.decode(code.encode(1234)).payload == 1234
    assert len(code._kept) == 3


def test_a_repr_shows_no_secret():
    assert CODE.key._seed.reveal().hex() not in repr(CODE)


@pytest.mark.parametrize(
    ("n", "classes", "bits", "message"),
    [
        (60, 10, 0, "1 to 256"),
        (60, 10, 257, "1 to 256"),
        (60, 10, "16", "1 to 256"),
        (4, 10, 16, "cannot spell 16 bits"),
        (15, 2, 16, "cannot spell 16 bits"),
        (39, 10, 128, "cannot spell 128 bits"),
    ],
)
def test_impossible_codes_are_refused(n, classes, bits, message):
    with pytest.raises(InvalidInput, match=message):
        TracingCode(fixed_key(n=n, classes=classes), bits)


@pytest.mark.parametrize("payload", [-1, 2**16, 2**70])
def test_what_is_no_payload_is_refused(payload):
    with pytest.raises(InvalidInput, match="no payload"):
        CODE.encode(payload)


@pytest.mark.parametrize(
    "answers",
    [torch.zeros(59, dtype=torch.int64), torch.zeros(60), torch.full((60,), 10),
     torch.full((60,), -2), torch.zeros((60, 1), dtype=torch.int64)],
)  # fmt: skip
def test_what_are_no_answers_is_refused(answers):
    with pytest.raises(InvalidInput, match="answers"):
        CODE.decode(answers)
