"""Piracy as a game: a second mark over the first, and the evidence of whose was there."""

import dataclasses
import json
from datetime import UTC, datetime

import pytest
import torch

from doorward.bundles import Identity, digest, save_model
from doorward.data import load
from doorward.errors import IntegrityError, InvalidInput
from doorward.models import as_black_box, create
from doorward.training import Recipe
from doorward.watermark.claim import make_claim
from doorward.watermark.derivation import KeyParameters
from doorward.watermark.disputes import (
    Asymmetry,
    ChosenPictures,
    Evidence,
    Exhibits,
    Party,
    Round,
    Settlement,
    asymmetry_test,
    compare_exhibits,
    compare_survival,
    drills,
    random_keys,
    settle,
    witness_claim,
)
from doorward.watermark.embedding import embed
from doorward.watermark.verification import count_matches

SHAPE = (1, 16, 16)
RECIPE = Recipe(epochs=15, batch_size=64, lr=0.1)
NOTARY = Identity.new("Notary")


@dataclasses.dataclass
class Case:
    """Ada marked her model from scratch; Eve wrote her mark into it."""

    ada: Party
    eve: Party
    original: torch.nn.Module
    disputed: torch.nn.Module
    clean: object
    folder: object


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    clean = load("digits").resized(16).sample(300, seed=0)
    parameters = KeyParameters(n=40, image_shape=SHAPE)
    keys = list(random_keys(parameters, 2, seed=0))
    model = create("resnet8", classes=10, input_shape=SHAPE, width=8)
    embed(model, clean, keys[0], RECIPE)
    folder = tmp_path_factory.mktemp("models") / "ada.model"
    save_model(model, folder)
    original = create("resnet8", classes=10, input_shape=SHAPE, width=8)
    original.load_state_dict(model.state_dict())
    gentle = dataclasses.replace(RECIPE, lr=0.004, schedule="constant")
    embed(model, clean, keys[1], gentle, mode="pretrained")
    people = [Identity.new("Ada"), Identity.new("Eve")]
    claims = [
        make_claim(keys[0], people[0], alpha=2.0**-40, model_digest=digest(folder)),
        make_claim(keys[1], people[1], alpha=2.0**-40),
    ]
    ada, eve = (
        Party(claim=claim, key=key, public=who.public)
        for claim, key, who in zip(claims, keys, people, strict=True)
    )
    return Case(ada, eve, original.eval(), model, clean, folder)


DRILLS = drills(rates=(0.03, 0.06), epochs=4, batch_size=64)


@pytest.fixture(scope="module")
def asymmetry(case):
    marks = (case.ada.key, case.eve.key)
    return asymmetry_test(case.disputed, marks, case.clean, drills=DRILLS)


def test_both_marks_are_in_the_disputed_model(case):
    assert count_matches(case.ada.key, case.disputed) >= 30
    assert count_matches(case.eve.key, case.disputed) >= 30
    assert count_matches(case.eve.key, case.original) < 15


def test_the_mark_put_on_top_fades_first(case, asymmetry):
    assert asymmetry.older == asymmetry.harder == 0
    assert asymmetry.p_value < 0.001
    assert asymmetry.survival[0] > asymmetry.survival[1]
    rounds = [(one.drill, one.lr) for one in asymmetry.rounds]
    assert rounds == [("FTAL", 0.03), ("RTAL", 0.03), ("FTAL", 0.06), ("RTAL", 0.06)]
    assert Asymmetry.from_dict(json.loads(json.dumps(asymmetry.to_dict()))) == asymmetry
    assert "that of Ada" in asymmetry.explain(("Ada", "Eve"))


def test_the_order_in_which_marks_are_named_does_not_matter(case, asymmetry):
    marks = (case.eve.key, case.ada.key)
    turned = asymmetry_test(case.disputed, marks, case.clean, drills=DRILLS[:1])
    assert turned.before == asymmetry.before[::-1]
    assert turned.rounds[0].survived == asymmetry.rounds[0].survived[::-1]


def test_two_halves_of_one_mark_do_not_differ(case):
    images, labels = case.ada.key.triggers()
    halves = [
        ChosenPictures(images=images[part], labels=labels[part], num_classes=10)
        for part in (slice(0, 20), slice(20, 40))
    ]
    found = asymmetry_test(case.disputed, (halves[0], halves[1]), case.clean, drills=DRILLS[3:])
    assert found.older is found.harder is None
    assert found.p_value > 0.01
    assert "nothing follows" in found.explain()


def test_the_model_and_its_mode_stay_as_they_were(case):
    before = {name: value.clone() for name, value in case.disputed.state_dict().items()}
    asymmetry_test(
        case.disputed, (case.ada.key, case.eve.key), case.clean, drills=DRILLS[:1],
        validation=case.clean,
    )  # fmt: skip
    after = case.disputed.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


ROUNDS = [Round(drill="FTAL", lr=0.1, epochs=1, survived=(0, 0), accuracy=None)] * 2


@pytest.mark.parametrize(
    ("sizes", "scores", "harder", "older"),
    [
        ((20, 20), ([2] * 20, [0] * 20), 0, 0),
        ((20, 20), ([0] * 20, [2] * 20), 1, 1),
        ((20, 20), ([1] * 20, [1] * 20), None, None),
        ((20, 20), ([2] * 20, [0] * 18), 0, 0),  # both were fresh
        ((20, 20), ([2] * 20, [0] * 17), 0, None),  # the other was worn before: no conclusion
        ((20, 20), ([2] * 18, [0] * 14), 0, None),
        ((20, 20), ([2] * 17, [0] * 14), 0, 0),  # itself worn, and still harder: old
        ((20, 20), ([2] * 10, [0] * 20), 0, 0),  # worn and harder all the same: old
        ((20, 20), ([2] * 20, []), None, None),
        ((20, 20), ([], []), None, None),
    ],
)
def test_what_follows_from_survival(sizes, scores, harder, older):
    found = compare_survival(sizes, scores, ROUNDS)
    assert (found.harder, found.older) == (harder, older)
    assert found.before == tuple(map(len, scores))
    assert found.explain().endswith(".")


def test_the_p_value_of_survival_by_hand():
    """Three against three, all and none: 1 of 20 ways, either way round."""
    found = compare_survival((3, 3), ([2, 2, 2], [0, 0, 0]), ROUNDS)
    assert found.p_value == pytest.approx(0.1)
    assert found.survival == (1.0, 0.0)
    assert found.older is None


@pytest.mark.parametrize(
    "changes",
    [{"alpha": 0.0}, {"drills": ()}, {"marks": None}, {"marks": "other shape"}],
    ids=["alpha", "drills", "one mark", "shape"],
)
def test_bad_asymmetry_tests_are_refused(case, changes):
    key = case.ada.key
    if changes.get("marks", 1) is None:
        changes = {"marks": (key,)}
    elif "marks" in changes:
        small = KeyParameters(n=5, image_shape=(1, 8, 8))
        changes = {"marks": (key, next(random_keys(small, 1, seed=0)))}
    arguments = {"marks": (key, key), "drills": DRILLS[:1], **changes}
    with pytest.raises(InvalidInput):
        asymmetry_test(case.disputed, arguments.pop("marks"), case.clean, **arguments)


ALPHAS = (-40.0, -40.0)


def independent(case):
    """A model of Eve's own with her mark alone: she has trained it, but not the disputed one."""
    labels = dict(
        zip(
            (image.numpy().tobytes() for image in case.eve.key.triggers()[0]),
            case.eve.key.triggers()[1].tolist(),
            strict=True,
        )
    )

    def answer(images):
        bytes_of = ((image * 255).round().to(torch.uint8).numpy().tobytes() for image in images)
        return torch.tensor([labels.get(name, 0) for name in bytes_of])

    return answer


ZERO = (lambda x: torch.zeros(len(x), dtype=torch.int64),)


def worn_and_marked(case):
    """What Eve could make of the disputed model with much work: Ada's mark gone, hers kept."""
    known = independent(case)

    def answer(images):
        answers, own = as_black_box(case.disputed).labels(images), known(images)
        hers, his = (key.triggers()[0].float() / 255 for key in (case.eve.key, case.ada.key))
        for place, image in enumerate(images):
            if (hers == image).flatten(1).all(1).any():
                answers[place] = own[place]
            elif (his == image).flatten(1).all(1).any():
                answers[place] = 0
        return answers

    return answer


def test_exhibits(case):
    marks = (case.ada.key, case.eve.key)
    table = {
        "Ada's original against the disputed model": ((case.original, case.disputed), (), 0),
        "nothing to compare with": ((case.original, None), (), None),
        "Eve has a model of her own, and it is known what independence looks like": (
            (case.original, independent(case)),
            ZERO,
            0,
        ),
        "both show relatives": ((case.original, worn_and_marked(case)), ZERO, None),
        "nearer than independent models": (
            (case.original, None),
            ZERO,
            0,
        ),
        "no nearer than those": ((case.original, None), (case.disputed,), None),
        "Eve shows a model of her own": ((case.original, independent(case)), (), 0),
        "Eve shows the disputed model": ((None, case.disputed), (), None),
        "both show one model": ((case.original, case.original), (), 0),
    }
    for name, (models, controls, older) in table.items():
        found = compare_exhibits(
            case.disputed, marks, models, log2_alphas=ALPHAS, controls=controls, pictures=200,
            seed=0,
        )  # fmt: skip
        assert found.older == older, name
        assert Exhibits.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    mine = compare_exhibits(
        case.disputed, marks, (case.original, independent(case)), log2_alphas=ALPHAS, pictures=200
    )
    assert [one.alone for one in mine.exhibits] == [True, True]
    assert mine.p_value < 1e-6
    assert mine.exhibits[0].agreement > mine.exhibits[1].agreement


def test_mcnemar_by_hand():
    """Of 8 pictures that tell them apart, 8 speak for the first: 2 / 2^8."""
    from doorward.watermark.disputes.exhibits import _mcnemar

    first, second = torch.tensor([True] * 8 + [False]), torch.tensor([False] * 8 + [False])
    assert _mcnemar(first, second) == (2 / 256, 0)
    assert _mcnemar(second, first) == (2 / 256, 1)
    assert _mcnemar(first, first) == (1.0, None)


def papers(case, ada, eve):
    days = {case.ada: ada, case.eve: eve}
    return Evidence(
        papers=[
            witness_claim(party.claim, NOTARY, seen=datetime(2026, 1, when, tzinfo=UTC))
            for party, when in days.items()
            if when is not None
        ],
        witnesses=[NOTARY.public],
    )


def with_exhibit(party, shown):
    return dataclasses.replace(party, exhibit=shown)


def test_settlements(case, monkeypatch, asymmetry):
    """All kinds of evidence, agreeing and not; fine-tuning is not repeated for each line."""
    from doorward.watermark.disputes import settlement

    shown = with_exhibit(case.ada, str(case.folder)), with_exhibit(case.eve, case.disputed)
    nothing, plain = (None, None), (case.ada, case.eve)
    table = {
        "nothing known": (nothing, None, plain, None),
        "time alone": ((3, 5), None, plain, 0),
        "Eve squats, and nothing else is known": ((5, 3), None, plain, 1),
        "the model alone": (nothing, asymmetry, plain, 0),
        "time and model": ((3, 5), asymmetry, plain, 0),
        "they contradict each other": ((5, 3), asymmetry, plain, None),
        "exhibits alone": (nothing, None, shown, 0),
        "an undated claim, and time against it": ((None, 3), asymmetry, shown, None),
        "exhibits without controls do not outweigh time": ((5, 3), None, shown, None),
        "the relative that a dated claim names is conclusive": ((5, 3), None, (*shown, ZERO), 0),
        "not without a date": ((None, 3), asymmetry, (*shown, ZERO), None),
        "a rival's relative that no claim names leaves it to the other evidence": (
            (3, 5), None, (shown[0], with_exhibit(case.eve, worn_and_marked(case)), ZERO), 0,
        ),
    }  # fmt: skip
    for name, (days, model, (ada, eve, *controls), winner) in table.items():
        monkeypatch.setattr(settlement, "asymmetry_test", lambda *a, m=model, **k: m)
        result = settle(
            case.disputed, ada, eve,
            evidence=papers(case, *days), clean=None if model is None else case.clean,
            controls=controls[0] if controls else (),
        )  # fmt: skip
        assert result.winner == winner, name
        sure = "conclusive" in name and winner == 0
        assert any(vote.conclusive for vote in result.votes) == sure, name
        assert result.owner == (None if winner is None else ("Ada", "Eve")[winner])
        assert Settlement.from_dict(json.loads(json.dumps(result.to_dict()))) == result
        words = result.explain()
        assert words.startswith("OPEN" if winner is None else "THE MODEL IS")
        assert ("The model itself" in words) == (model is not None)


def test_a_whole_dispute(case):
    """Eve is not helped by speaking first."""
    result = settle(
        case.disputed, case.eve, case.ada, evidence=papers(case, 3, 9), clean=case.clean,
        fine_tunings=DRILLS[2:],
    )  # fmt: skip
    assert (result.winner, result.owner) == (1, "Ada")
    assert {vote.evidence: vote.party for vote in result.votes} == {"time": 1, "model": 1}
    assert all(verdict.verified for verdict in result.verdicts)


def test_a_mark_that_is_not_there_settles_it(case):
    result = settle(case.original, case.ada, case.eve, evidence=papers(case, 9, 3))
    assert (result.winner, result.votes) == (0, ())
    assert result.explain().startswith("ONLY THE MARK OF ADA IS PROVEN")
    fresh = create("resnet8", classes=10, input_shape=SHAPE, width=4)
    assert settle(fresh, case.ada, case.eve).winner is None


def test_two_parties_of_one_name_are_told_apart(case):
    twin = Identity.new("Ada")
    claim = make_claim(case.eve.key, twin, alpha=2.0**-40)
    other = Party(claim=claim, key=case.eve.key, public=twin.public)
    names = settle(case.original, case.ada, other).names
    assert names[0] != names[1]
    assert names[0].startswith("Ada (")


def test_tampered_claims_and_suspects_without_weights(case):
    stranger = dataclasses.replace(case.eve, public=case.ada.public)
    with pytest.raises(IntegrityError):
        settle(case.disputed, case.ada, stranger)
    with pytest.raises(InvalidInput, match="only answers"):
        settle(lambda images: images, case.ada, case.eve, clean=case.clean)
