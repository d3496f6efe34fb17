"""Cut-and-choose: the notes' two tables, the draw, opened pairs, and the rule for the rest."""

import copy
import json
import math
import random
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from doorward.bundles.identity import Identity
from doorward.bundles.signed import sign_document
from doorward.errors import BadFile, IntegrityError, InvalidInput
from doorward.metrics import binomial_tail_log2
from doorward.watermark.adi import PaperKey, publish
from doorward.watermark.claim import make_claim
from doorward.watermark.cutandchoose import (
    BY_BEACON,
    BY_HASH,
    CutAndChoose,
    OpenedPairs,
    inspect_pairs,
    open_pairs,
    verify_unopened,
)
from doorward.watermark.cutandchoose.pairs import PURPOSE
from doorward.watermark.key import WatermarkKey

SHAPE = (1, 8, 8)
BILLIONTH = math.log2(1e-9)

# log2 of the chance that b wrong pairs survive, when k of N pairs are opened.
SOUNDNESS = {
    (200, 100): {5: "-5.1", 10: "-10.3", 20: "-21.5", 30: "-33.7", 40: "-47.1", 60: "-78.8"},
    (400, 200): {5: "-5.0", 10: "-10.2", 20: "-20.7", 30: "-31.7", 40: "-43.1", 60: "-67.5"},
    (200, 150): {5: "-10.2", 10: "-21.1", 20: "-45.0", 30: "-72.9", 40: "-107.3", 60: "-inf"},
}
# b, and the matches needed of the unopened pairs, for p <= 1e-9 at L = 10.
NEEDED = {
    (200, 100, BY_HASH): (61, 80, 100),
    (200, 150, BY_HASH): (33, 46, 50),
    (400, 200, BY_HASH): (70, 108, 200),
    (200, 100, BY_BEACON): (28, 55, 100),
    (200, 150, BY_BEACON): (14, 33, 50),
    (400, 200, BY_BEACON): (29, 75, 200),
}


@pytest.mark.parametrize("setting", SOUNDNESS, ids=str)
def test_the_table_of_soundness(setting):
    plan = CutAndChoose(pairs=setting[0], opened=setting[1])
    assert {bad: f"{plan.soundness(bad):.1f}" for bad in SOUNDNESS[setting]} == SOUNDNESS[setting]


@pytest.mark.parametrize("setting", NEEDED, ids=str)
def test_the_table_of_matches_needed(setting):
    pairs, opened, log2_cheating = setting
    plan = CutAndChoose(pairs=pairs, opened=opened, log2_cheating=log2_cheating)
    assert (plan.bad, plan.needed(10, BILLIONTH), plan.rest) == NEEDED[setting]


@given(st.integers(2, 120), st.data())
@settings(max_examples=60, deadline=None)
def test_numbers_against_their_definitions(pairs, data):
    opened = data.draw(st.integers(1, pairs - 1))
    plan = CutAndChoose(pairs=pairs, opened=opened, log2_cheating=-20.0)

    def survives(bad):
        return Fraction(math.comb(pairs - bad, opened), math.comb(pairs, opened))

    target = Fraction(1, 2**20)
    assert survives(plan.bad) <= target < survives(plan.bad - 1)
    needed = plan.needed(10, -30.0)
    if needed is not None:
        spare = plan.rest - plan.bad
        assert binomial_tail_log2(needed - plan.bad, spare, 0.1) <= -30
        assert binomial_tail_log2(needed - 1 - plan.bad, spare, 0.1) > -30
        assert plan.log2_p(needed, 10) <= -30 < plan.log2_p(needed - 1, 10)
    assert plan.log2_p(0, 10) == plan.log2_p(min(plan.bad, plan.rest), 10) == 0


def test_fewer_wrong_pairs_than_granted_help_a_cheat_less():
    """The rule grants b wrong pairs; with fewer, its p-value is smaller still."""
    plan = CutAndChoose(pairs=200, opened=100, log2_cheating=BY_BEACON)
    needed = plan.needed(10, BILLIONTH)
    for bad in range(plan.bad + 1):
        assert binomial_tail_log2(needed - bad, plan.rest - bad, 0.1) <= BILLIONTH


@pytest.mark.parametrize(
    "values",
    [
        {"pairs": 1, "opened": 1},
        {"pairs": 10, "opened": 0},
        {"pairs": 10, "opened": 10},
        {"pairs": 10, "opened": 5, "log2_cheating": -10.0},
        {"pairs": 10, "opened": 5, "log2_cheating": -math.inf},
        {"pairs": 2**17, "opened": 5},
    ],
)
def test_plans_out_of_range(values):
    with pytest.raises(InvalidInput):
        CutAndChoose.from_dict(values)


def test_the_draw_depends_on_everything():
    plan = CutAndChoose(pairs=100, opened=50)
    drawn = plan.drawn("ab" * 32)
    assert len(set(drawn)) == 50
    assert list(drawn) == sorted(drawn)
    assert drawn == plan.drawn("ab" * 32)
    others = [
        plan.drawn("ac" * 32),
        plan.drawn("ab" * 32, "beacon"),
        plan.drawn("ab" * 32, "other"),
        CutAndChoose(pairs=101, opened=50).drawn("ab" * 32),
        CutAndChoose(pairs=100, opened=49).drawn("ab" * 32),
    ]
    assert len({drawn, *others}) == 6


def test_a_cheat_is_caught_as_often_as_the_formula_says():
    """Three wrong pairs of 20, 10 opened: they survive with C(17, 10) / C(20, 10) = 0.105."""
    plan = CutAndChoose(pairs=20, opened=10)
    survived = sum(not {0, 7, 19} & set(plan.drawn(f"{number:064x}")) for number in range(2000))
    chance = 2 ** plan.soundness(3)
    assert chance == pytest.approx(19448 / 184756)
    assert abs(survived - 2000 * chance) < 5 * math.sqrt(2000 * chance * (1 - chance))


@pytest.fixture(scope="module")
def ada():
    return Identity.new("Ada")


PLAN = CutAndChoose(pairs=100, opened=50, log2_cheating=BY_BEACON)


@pytest.fixture(scope="module", params=["keyed", "paper"])
def case(request, ada):
    """A key, what was published of it, and its opened pairs."""
    if request.param == "keyed":
        key = WatermarkKey.new(n=100, image_shape=SHAPE, owner=ada.public)
        claim = make_claim(key, ada, alpha=1e-9, disclosure=None)
    else:
        key = PaperKey.new(n=100, classes=10, image_shape=SHAPE)
        claim = publish(key, ada)
    return key, claim, open_pairs(key, claim, ada, PLAN, beacon="round 9")


def test_opened_pairs_are_the_keys(case, ada, tmp_path):
    key, claim, opened = case
    opened.save(tmp_path / "pairs.json")
    revealed = OpenedPairs.load(tmp_path / "pairs.json").reveal(claim, ada.public)
    images, labels = key.triggers()
    places = list(revealed.indices)
    assert revealed.indices == PLAN.drawn(key.commitment(), "round 9")
    assert torch.equal(revealed.images, images[places])
    assert torch.equal(revealed.labels, labels[places])


def test_one_label_that_is_the_truth_rejects_the_claim(case, ada):
    _, claim, opened = case
    revealed = opened.reveal(claim, ada.public)
    fine = inspect_pairs(claim, opened, public=ada.public, judge=lambda images: [None] * 50)
    assert fine.accepted
    assert (fine.inspected, fine.bad) == (50, PLAN.bad)
    assert fine.soundness == pytest.approx(PLAN.soundness(PLAN.bad))
    truth = [None] * 50
    truth[3] = int(revealed.labels[3])
    truth[4] = (int(revealed.labels[4]) + 1) % 10
    seen = inspect_pairs(claim, opened, public=ada.public, judge=truth)
    assert seen.correct == (revealed.indices[3],)
    assert not seen.accepted


def _knows(key, known):
    """A suspect that gives the pairs of these numbers their labels, and no other."""
    images, labels = key.triggers()
    answers = (labels + 1) % key.classes
    answers[known] = labels[known]
    table = {image.numpy().tobytes(): int(y) for image, y in zip(images, answers, strict=True)}
    return lambda asked: torch.tensor(
        [table[(image * 255).round().to(torch.uint8).numpy().tobytes()] for image in asked]
    )


def test_the_rest_decides(case, ada):
    key, claim, opened = case
    shown = set(opened.reveal(claim, ada.public).indices)
    rest = [i for i in range(100) if i not in shown]
    needed = PLAN.needed(10, BILLIONTH)
    asked = {"public": ada.public, "alpha": 1e-9}
    for matches in (0, needed - 1, needed, 50):
        suspect = _knows(key, rest[:matches] + sorted(shown))
        verdict = verify_unopened(claim, key, opened, suspect, **asked)
        assert (verdict.matches, verdict.n, verdict.needed) == (matches, 50, needed)
        assert verdict.verified is (matches >= needed)
        assert verdict.p_value == pytest.approx(2**verdict.log2_p)
        assert f"fewer than {PLAN.bad} true ones" in verdict.reason
    failed = inspect_pairs(
        claim, opened, public=ada.public, judge=opened.reveal(claim, ada.public).labels.tolist()
    )
    verdict = verify_unopened(claim, key, opened, None, inspection=failed, **asked)
    assert not verdict.verified
    assert verdict.matches is None


def _replaced(name):
    def change(content):
        content[name][0] = content[name][1]

    return change


def _flip(text):
    return text[:-1] + ("0" if text[-1] != "0" else "1")


def _entry(name, field, function):
    def change(content):
        content[name][5][field] = function(content[name][5][field])

    return change


ONE = {
    "triggers": {"index": 0, "secret": "0" * 64, "path": []},
    "pairs": {
        "index": 0,
        "picture": "",
        "label": 0,
        "picture_salt": "0" * 64,
        "label_salt": "0" * 64,
    },
}
CHANGES = {
    "plan": lambda c: c["plan"].update(opened=49),
    "level": lambda c: c["plan"].update(log2_cheating=-31.0, pairs=101),
    "beacon": lambda c: c.update(beacon="round 10"),
    "no beacon": lambda c: c.update(beacon=None),
    "commitment": lambda c: c.update(commitment="ab" * 32),
    "both kinds": lambda c: [c[name].append(entry) for name, entry in ONE.items()],
    "neither kind": lambda c: c.update(triggers=[], pairs=[]),
    "field": lambda c: c.update(note="trust me"),
}
KEYED = {
    "a pair twice": _replaced("triggers"),
    "secret": _entry("triggers", "secret", _flip),
    "index": _entry("triggers", "index", lambda index: index + 1),
    "path": _entry("triggers", "path", lambda path: path[1:]),
}
PAPER = {
    "a pair twice": _replaced("pairs"),
    "picture": _entry("pairs", "picture", lambda text: ("B" if text[0] == "A" else "A") + text[1:]),
    "short picture": _entry("pairs", "picture", lambda text: text[:-8]),
    "no picture": _entry("pairs", "picture", lambda text: "?"),
    "label": _entry("pairs", "label", lambda label: (label + 1) % 10),
    "picture salt": _entry("pairs", "picture_salt", _flip),
    "label salt": _entry("pairs", "label_salt", _flip),
    "index": _entry("pairs", "index", lambda index: 65_000),
}


@pytest.mark.parametrize(
    ("case", "change"),
    [("keyed", name) for name in {**CHANGES, **KEYED}]
    + [("paper", name) for name in {**CHANGES, **PAPER}],
    indirect=["case"],
)
def test_changed_pairs_are_rejected_even_if_the_owner_signs_them(case, ada, change, tmp_path):
    key, claim, opened = case
    own = KEYED if isinstance(key, WatermarkKey) else PAPER
    content = copy.deepcopy(dict(opened.document["content"]))
    {**CHANGES, **own}[change](content)
    path = tmp_path / "pairs.json"
    path.write_text(json.dumps(sign_document(content, ada, purpose=PURPOSE)))
    with pytest.raises(IntegrityError):
        OpenedPairs.load(path).reveal(claim, ada.public)


def test_fuzzed_pairs_are_all_rejected(case, ada, tmp_path):
    _, claim, opened = case
    path, draws = tmp_path / "pairs.json", random.Random(0)
    opened.save(path)
    whole = path.read_bytes()
    tampered = [whole[:length] for length in draws.sample(range(len(whole) - 1), 20)]
    for place in draws.sample(range(8 * len(whole)), 120):
        changed = bytearray(whole)
        changed[place // 8] ^= 1 << place % 8
        tampered.append(bytes(changed))
    accepted = 0
    for content in [*tampered, b"", b"[]", b"{" * 10**5]:
        path.write_bytes(content)
        try:
            OpenedPairs.load(path).reveal(claim, ada.public)
        except (IntegrityError, BadFile):
            continue
        accepted += json.loads(content) != opened.document
    assert accepted == 0


def test_pairs_of_another_owner_or_claim(case, ada):
    key, claim, opened = case
    eve = Identity.new("Eve")
    with pytest.raises(IntegrityError):
        opened.reveal(claim, eve.public)
    with pytest.raises(IntegrityError):
        open_pairs(key, claim, eve, PLAN, beacon="round 9")
    other = PaperKey.new(n=100, classes=10, image_shape=SHAPE)
    with pytest.raises(IntegrityError, match="another claim"):
        opened.reveal(publish(other, ada), ada.public)
    with pytest.raises(InvalidInput, match="not the claim's"):
        open_pairs(other, claim, ada, PLAN, beacon="round 9")
    with pytest.raises(InvalidInput, match="not the claim's"):
        verify_unopened(claim, other, opened, None, public=ada.public)


def test_what_does_not_fit_is_explained(case, ada):
    key, claim, opened = case
    with pytest.raises(InvalidInput, match="draw by a beacon"):
        open_pairs(key, claim, ada, PLAN)
    with pytest.raises(InvalidInput, match="Plan with all"):
        open_pairs(key, claim, ada, CutAndChoose(pairs=99, opened=50), beacon="b")
    with pytest.raises(InvalidInput, match="never be met"):
        verify_unopened(claim, key, opened, None, public=ada.public, alpha=1e-60)
    with pytest.raises(InvalidInput, match="alpha"):
        verify_unopened(claim, key, opened, None, public=ada.public, alpha=1.0)


def test_pairs_of_a_claim_for_disputes_are_not_opened(ada):
    """They would be known to every thief before the first dispute."""
    key = WatermarkKey.new(n=100, image_shape=SHAPE, owner=ada.public)
    with pytest.raises(InvalidInput, match="for openings in disputes"):
        open_pairs(key, make_claim(key, ada), ada, PLAN, beacon="round 9")


def test_given_labels_have_no_known_chance(ada):
    key = PaperKey.new(n=100, image_shape=SHAPE, labels=[i % 10 for i in range(100)])
    claim = publish(key, ada)
    opened = open_pairs(key, claim, ada, PLAN, beacon="round 9")
    with pytest.raises(InvalidInput, match="given, not drawn"):
        verify_unopened(claim, key, opened, None, public=ada.public)


def test_innocent_models_do_not_reach_the_rule(ada):
    """A model that matches every pair with a true label, and those by chance, stays below."""
    key = PaperKey.new(n=100, classes=10, image_shape=SHAPE)
    claim = publish(key, ada)
    opened = open_pairs(key, claim, ada, PLAN, beacon="round 9")
    shown = set(opened.reveal(claim, ada.public).indices)
    rest = [i for i in range(100) if i not in shown]
    truth = torch.randint(10, (100,), generator=torch.Generator().manual_seed(0))
    lucky = [i for i in rest[PLAN.bad - 1 :] if truth[i] == key.triggers()[1][i]]
    suspect = _knows(key, rest[: PLAN.bad - 1] + lucky)
    verdict = verify_unopened(claim, key, opened, suspect, public=ada.public)
    assert not verdict.verified
    assert verdict.p_value > 1e-6
