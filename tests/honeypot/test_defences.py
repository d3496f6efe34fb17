"""Defences of others: tables over the registry, values by hand, and what survives a theft."""

from __future__ import annotations

import math

import pytest
import torch

from doorward.data import load
from doorward.errors import InvalidInput
from doorward.honeypot.defences import (
    DEFENCES,
    AdaptiveMisinformation,
    Dawn,
    Defended,
    Mad,
    Prada,
    ReverseSigmoid,
    Rounding,
)
from doorward.honeypot.defences.poisoning import _sets, _surrogate
from doorward.models import create
from doorward.randomness import Secret

SECRET = Secret(bytes(range(32)))


@pytest.fixture(scope="module")
def asked():
    """Answers to 60 digits, some sure and some not, and the digits."""
    draw = torch.Generator().manual_seed(0)
    images = load("digits", split="test", size=16).sample(60, seed=0).pixels()
    scale = torch.linspace(0.2, 12, 60)[:, None]
    return (scale * torch.randn(60, 10, generator=draw)).softmax(1), images


@pytest.mark.parametrize("name", list(DEFENCES))
def test_every_defence_keeps_the_form_and_repeats_itself(name, asked):
    answers, images = asked
    defence = DEFENCES[name]()
    told = defence.answer(answers, images, SECRET)
    assert told.shape == answers.shape
    assert told.dtype == answers.dtype
    assert bool((told.isfinite() & (told >= 0)).all())
    assert told.equal(defence.answer(answers, images, SECRET))
    some = torch.tensor([7, 3, 51])  # whatever else is asked about at the same time
    assert torch.allclose(defence.answer(answers[some], images[some], SECRET), told[some])
    if name not in {"rounding"}:
        assert torch.allclose(told.sum(1), torch.ones(60), atol=1e-5)
    assert type(defence).from_dict(defence.to_dict()) == defence


@pytest.mark.parametrize("name", sorted({"rounding", "top-1", "mad"}))
def test_the_first_class_stays(name, asked):
    answers, images = asked
    told = DEFENCES[name]().answer(answers, images, SECRET)
    assert told.argmax(1).equal(answers.argmax(1))


def test_rounding_by_hand():
    one = torch.zeros(1, 1, 8, 8)
    answers = torch.tensor([[0.04, 0.48, 0.48 - 1e-4], [0.2, 0.31, 0.49]])
    told = Rounding(decimals=1).answer(answers, one, SECRET)
    assert torch.allclose(told[1], torch.tensor([0.2, 0.3, 0.5]))
    assert told.argmax(1).tolist() == [1, 2]
    flat = torch.full((1, 30), 1 / 30)
    flat[0, 9] += 1e-3
    assert int(Rounding(decimals=1).answer(flat, one, SECRET).argmax()) == 9


def test_reverse_sigmoid_by_hand():
    """beta 0.5, gamma 1: s(s^-1(y)) = y, so what is told is y / 2 + 1 / 4, made to sum to 1."""
    answers = torch.tensor([[0.75, 0.25]])
    told = ReverseSigmoid(beta=0.5, gamma=1.0).answer(answers, answers, SECRET)
    assert torch.allclose(told, torch.tensor([[0.625, 0.375]]), atol=1e-6)
    certain = ReverseSigmoid().answer(torch.tensor([[1.0, 0.0]]), answers, SECRET)
    assert bool(certain.isfinite().all())


def test_misinformation_lies_about_what_is_unsure_alone():
    answers = torch.tensor([[0.9, 0.1, 0.0], [0.5, 0.3, 0.2]])
    told = AdaptiveMisinformation(tau=0.7).answer(answers, answers, SECRET)
    assert torch.allclose(told[0], answers[0], atol=1e-6)
    assert torch.allclose(told[1], torch.tensor([0.2, 0.3, 0.5]), atol=1e-6)


def test_mad_goes_to_its_bound_and_turns_the_gradient(asked):
    answers, images = asked
    previous = torch.ones(len(answers))
    for epsilon in (0.1, 0.4, 0.8):
        told = Mad(epsilon=epsilon).answer(answers, images, SECRET)
        moved = (told - answers).abs().sum(1)
        assert float(moved.max()) <= epsilon + 1e-5
        with torch.no_grad():
            guess = _surrogate("resnet8", 10, (1, 16, 16), 0)(images).softmax(1)
        cosine = torch.nn.functional.cosine_similarity(told - guess, answers - guess)
        assert float((cosine - previous).max()) <= 1e-5
        previous = cosine
    assert Mad(epsilon=0.0).answer(answers, images, SECRET).allclose(answers)


def test_mad_tries_every_set_of_few_classes():
    assert len(_sets(10)) == 2**9
    assert len({frozenset(members) for members in _sets(10)}) == 2**9
    assert all(0 in members for members in _sets(40))
    assert len(_sets(40)) < 100


def _memory(images, labels):
    """A model that knows these images' labels by heart."""
    known = {bytes(row): int(k) for row, k in zip(_bytes(images), labels, strict=True)}
    return lambda queries: [known[bytes(row)] for row in _bytes(queries)]


def _bytes(images):
    return (images * 255).round().byte().flatten(1).numpy()


def test_dawn_lies_about_its_share_and_names_the_account(asked):
    images = load("digits", size=16).pixels()
    answers = torch.eye(10)[torch.randint(10, (len(images),))]
    dawn = Dawn(share=0.05, cells=8)
    told = dawn.answer(answers, images, SECRET)
    wrong = told.argmax(1) != answers.argmax(1)
    assert 0.02 < float(wrong.double().mean()) < 0.09
    other = dawn.answer(answers, images, Secret(bytes(32)))
    assert not told.equal(other)
    right = answers.argmax(1)
    lying = _memory(images, told.argmax(1))
    honest = _memory(images, right)
    assert dawn.log2_p(lying, images, right, SECRET) < -100
    assert dawn.log2_p(honest, images, right, SECRET) > -1
    assert dawn.log2_p(lying, images, right, Secret(bytes(32))) > -7  # another account's list
    with pytest.raises(InvalidInput, match="no wrong answer"):
        dawn.log2_p(lying, images[~wrong][:3], right[~wrong][:3], SECRET)


def test_most_noisy_repetitions_get_the_answer_of_before():
    images = load("digits", size=16).sample(300, seed=0).pixels()
    noisy = (images + torch.randn(images.shape) * 2 / 255).clamp(0, 1)
    dawn = Dawn(share=0.5)
    same = (dawn.chosen(images, SECRET) == dawn.chosen(noisy, SECRET)).double().mean()
    assert float(same) > 0.75


def test_prada_answers_truly_until_a_walk_gives_the_thief_away():
    natural = load("digits").pixels()[:400]
    told = torch.eye(10)[load("digits").labels[:400]] * 0.9 + 0.01
    honest = Prada().session(SECRET)
    for part in range(0, 400, 20):
        lot = slice(part, part + 20)
        assert honest(told[lot], natural[lot]).equal(told[lot])
    thief, walked = Prada(delta=0.9).session(SECRET), natural[:50]
    labels = told[:50]
    draw = torch.Generator().manual_seed(1)
    for _ in range(3):
        step = 0.02 * torch.randn(walked.shape, generator=draw).sign()
        walked = torch.cat([walked, (walked + step).clamp(0, 1)])
        labels = torch.cat([labels, labels])
    lies = 0
    for part in range(0, 400, 20):
        lot = slice(part, part + 20)
        lies += int((thief(labels[lot], walked[lot]).argmax(1) != labels[lot].argmax(1)).sum())
    assert lies > 20


def test_a_defended_victim_is_a_black_box(asked):
    _, images = asked
    model = create("resnet8", classes=10, input_shape=(1, 16, 16), width=4)
    box = Defended(model, DEFENCES["top-1"](), SECRET)
    assert (box.num_classes, box.input_shape) == (10, (1, 16, 16))
    with torch.no_grad():
        assert box.labels(images).equal(model.eval()(images).argmax(1))
    assert box.describe()["defence"] == {"name": "top-1"}
    assert len(box.labels(images[:0])) == 0
    assert math.isclose(float(box.probabilities(images).sum()), 60)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("rounding", {"decimals": 9}),
        ("reverse-sigmoid", {"gamma": 0.0}),
        ("adaptive-misinformation", {"tau": 1.5}),
        ("mad", {"epsilon": 3}),
        ("dawn", {"share": 0.9}),
        ("prada", {"delta": 1.0}),
        ("top-1", {"decimals": 1}),
    ],
)
def test_wrong_parameters_are_refused(name, wrong):
    with pytest.raises(InvalidInput, match=next(iter(wrong))):
        DEFENCES[name].from_dict(wrong)
