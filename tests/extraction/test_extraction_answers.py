"""What a victim tells: hand-computed limits, and words for them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from doorward.errors import InvalidInput, ModelUnsuitable
from doorward.extraction import Answers, answers_of
from doorward.models import CallableBox, create

ROWS = torch.tensor([[0.046, 0.054, 0.9], [0.4, 0.4, 0.2]])


@pytest.mark.parametrize(
    ("word", "seen"),
    [
        ("soft", ROWS.tolist()),
        ("label", [2, 0]),
        ("top-1", [[0, 0, 0.9], [0.4, 0, 0]]),  # of equals, the smaller class
        ("top-2", [[0, 0.054, 0.9], [0.4, 0.4, 0]]),
        ("top-3", ROWS.tolist()),
        ("top-9", ROWS.tolist()),
        ("rounded-1", [[0, 0.1, 0.9], [0.4, 0.4, 0.2]]),
        ("rounded-2", [[0.05, 0.05, 0.9], [0.4, 0.4, 0.2]]),
    ],
)
def test_limits_by_hand(word: str, seen: list[list[float]]) -> None:
    mode = Answers.of(word)
    assert torch.allclose(mode.limit(ROWS), torch.tensor(seen))
    box = CallableBox(lambda images: ROWS, num_classes=3)
    assert torch.allclose(mode.ask(box, torch.rand(2, 1, 4, 4)), torch.tensor(seen))
    assert str(mode) == word
    assert Answers.of(str(mode)) == mode == Answers.from_dict(mode.to_dict())


def test_words() -> None:
    assert Answers.of("top-k") == Answers(mode="top-k", k=5)
    assert Answers.of("rounded") == Answers(mode="rounded", decimals=2)
    given = Answers(mode="top-k", k=3)
    assert Answers.of(given) is given


@pytest.mark.parametrize(
    "word",
    ["", "Soft", "hard", "top", "top-", "top-0", "top-x", "top-99999", "rounded-0", "rounded-7"],
)
def test_words_that_are_none(word: str) -> None:
    with pytest.raises(InvalidInput):
        Answers.of(word)


@given(
    rows=st.lists(st.lists(st.floats(0, 9, width=32), min_size=4, max_size=4), min_size=1),
    k=st.integers(1, 4),
)
def test_top_k_keeps_the_k_largest_and_the_class(rows: list[list[float]], k: int) -> None:
    probabilities = torch.tensor(rows).softmax(1)
    seen = Answers(mode="top-k", k=k).limit(probabilities)
    assert torch.equal(seen.argmax(1), probabilities.argmax(1))
    assert torch.equal(seen.sort(1).values[:, 4 - k :], probabilities.sort(1).values[:, 4 - k :])
    assert ((seen == 0).sum(1) >= 4 - k).all()


def test_answers_of_a_whole_set_come_in_its_order(victim: nn.Module, pool: object) -> None:
    soft = answers_of(victim, pool, batch_size=100)
    assert (soft.shape, soft.dtype) == ((len(pool), 10), torch.float32)
    assert torch.equal(answers_of(victim, pool, "label"), soft.argmax(1))
    assert torch.allclose(victim(pool.pixels([7])).softmax(1)[0], soft[7], atol=1e-5)


def test_labels_alone_cannot_be_softened() -> None:
    box = CallableBox(lambda images: torch.zeros(len(images), dtype=torch.int64))
    with pytest.raises(ModelUnsuitable, match=r"labels only.*answers=\"label\""):
        Answers.of("soft").ask(box, torch.rand(2, 1, 4, 4))
    assert Answers.of("label").ask(box, torch.rand(2, 1, 4, 4)).tolist() == [0, 0]


def test_a_small_model_of_the_zoo() -> None:
    model = create("resnet8", classes=3, input_shape=(1, 16, 16), width=4)
    seen = Answers.of("rounded-3").ask(CallableBox(model.eval()), torch.rand(5, 1, 16, 16))
    assert torch.allclose(seen * 1000, (seen * 1000).round(), atol=1e-3)
