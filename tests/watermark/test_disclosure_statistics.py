"""Openings: the rule of the claim, p-values by hand, and what innocent models get."""

import hashlib
import itertools
import json
import math
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from doorward.bundles.identity import Identity
from doorward.errors import IntegrityError, InvalidInput
from doorward.metrics import binomial_tail
from doorward.randomness import Secret, generator
from doorward.watermark.claim import Claim, make_claim
from doorward.watermark.disclosure import BurnLedger, Disclosure, disclose, make_challenge
from doorward.watermark.disclosure import verify_opening as judge
from doorward.watermark.drawing import draw
from doorward.watermark.key import KeyParameters, WatermarkKey, draw_triggers
from doorward.watermark.opened import RevealedTriggers, open_triggers
from doorward.watermark.statement import Statement

SHAPE = (1, 8, 8)
OLD_CLAIM = Path(__file__).parent / "claim-of-0.1.json"


@pytest.fixture(scope="module")
def ada():
    return Identity.new("Ada")


@pytest.mark.parametrize(
    ("n", "classes", "size", "log2_alpha", "lots", "needed"),
    [
        (200, 10, 20, -40.0, 10, 17),  # 10 * 8.5e-15 <= 2^-40 = 9.1e-13 < 10 * 3.3e-13
        (100, 10, 20, -40.0, 5, 17),
        (40, 10, 20, -40.0, 2, 16),  # 2 * 3.3e-13
        (200, 10, 50, -40.0, 4, 26),
        (200, 10, 20, -63.0, 10, 20),  # 10 * 1e-20 = 2^-63.1
        (200, 10, 20, -64.0, 10, None),
        (219, 10, 20, -40.0, 10, 17),  # 19 triggers are left over
        (60, 2, 60, -40.0, 1, 56),
    ],
)
def test_matches_that_a_lot_needs(n, classes, size, log2_alpha, lots, needed):
    rule = Disclosure(size=size, log2_alpha=log2_alpha)
    assert rule.lots(n) == lots
    assert rule.needed(n, classes) == needed
    if needed is not None:
        exact = [
            sum(
                math.comb(size, k)
                * Fraction(1, classes) ** k
                * Fraction(classes - 1, classes) ** (size - k)
                for k in range(matches, size + 1)
            )
            for matches in (needed, needed - 1)
        ]
        assert exact[0] * lots <= Fraction(2) ** int(log2_alpha) < exact[1] * lots


def test_twenty_triggers_by_hand():
    """P(X >= 17) = 1140 * 9^3 + 190 * 9^2 + 20 * 9 + 1 in 10^20: the notes' 8.5e-15."""
    by_hand = Fraction(1140 * 729 + 190 * 81 + 20 * 9 + 1, 10**20)
    assert binomial_tail(17, 20, 0.1) == float(by_hand)
    assert f"{float(by_hand):.1e}" == "8.5e-15"
    assert binomial_tail(20, 20, 0.1) == 1e-20


@given(n=st.integers(1, 500), size=st.integers(1, 60))
def test_lots_are_disjoint_and_inside_the_key(n, size):
    rule = Disclosure(size=size)
    seen = [index for lot in range(rule.lots(n)) for index in rule.members(lot)]
    assert seen == list(range(rule.lots(n) * size))
    assert n - size < len(seen) <= n


@given(n=st.integers(1, 300), classes=st.sampled_from([2, 3, 5, 10, 43, 1000]))
@settings(max_examples=60, deadline=None)
def test_the_rule_that_doorward_chooses_can_be_met(n, classes):
    rule = Disclosure.fitting(n, classes)
    if rule is not None:
        assert 20 <= rule.size <= n
        assert rule.needed(n, classes) <= 0.85 * rule.size
        smaller = Disclosure(size=rule.size - 5).needed(n, classes)
        assert rule.size == 20 or smaller is None or smaller > 0.85 * (rule.size - 5)


@given(st.binary(max_size=40), st.integers(1, 60), st.data())
@settings(deadline=None)
def test_a_draw_is_a_sample_without_replacement(transcript, population, data):
    count = data.draw(st.integers(0, population))
    drawn = draw(transcript, population, count)
    assert len(set(drawn)) == len(drawn) == count
    assert all(0 <= number < population for number in drawn)
    assert drawn == draw(transcript, population, population)[:count]


def test_draws_are_uniform():
    counts = torch.zeros(7)
    for number in range(3500):
        counts[draw(number.to_bytes(4, "big"), 7, 1)[0]] += 1
    # Five standard deviations of a chi-square variable with 6 degrees of freedom.
    assert ((counts - 500) ** 2 / 500).sum() < 6 + 5 * 12**0.5


def test_claims_of_the_first_version_are_still_valid():
    """Signed by version 0.1, which knew neither beacons nor openings."""
    claim = Claim.load(OLD_CLAIM)
    claim.check(claim.signer)
    assert claim.statement.key.beacon is claim.statement.disclosure is None
    owner = claim.statement.key.owner
    key = WatermarkKey(Secret(bytes(32)), KeyParameters(n=40, image_shape=SHAPE, owner=owner))
    assert key.commitment() == claim.statement.root
    with pytest.raises(InvalidInput, match="allows no openings"):
        make_challenge(claim, "named:rival", "beacon")


def test_a_claim_fixes_the_rule(ada):
    key = WatermarkKey.new(n=200, image_shape=SHAPE, owner=ada.public)
    assert make_claim(key, ada).statement.disclosure == Disclosure(size=20, log2_alpha=-40.0)
    assert make_claim(key, ada, disclosure=None).statement.disclosure is None
    chosen = Disclosure(size=50, log2_alpha=-30.0)
    claim = make_claim(key, ada, disclosure=chosen)
    assert Claim.from_document(json.loads(json.dumps(dict(claim.document)))).statement == (
        claim.statement
    )
    with pytest.raises(InvalidInput, match="cannot prove anything"):
        make_claim(key, ada, disclosure=Disclosure(size=5))
    with pytest.raises(InvalidInput, match="more than the key has"):
        make_claim(key, ada, disclosure=Disclosure(size=201))
    document = json.loads(json.dumps(dict(claim.document)))
    document["content"]["disclosure"]["log2_alpha"] = -20.0
    with pytest.raises(IntegrityError):
        Claim.from_document(document).check(ada.public)


def test_no_rule_may_be_weaker_than_trying_keys_costs():
    with pytest.raises(InvalidInput, match="log2_alpha"):
        Disclosure.from_dict({"size": 20, "log2_alpha": -19.0})


def test_small_keys_have_whole_proofs_only(ada):
    key = WatermarkKey.new(n=15, image_shape=SHAPE, owner=ada.public)
    assert make_claim(key, ada, alpha=1e-9).statement.disclosure is None


def _planted(key: WatermarkKey, known: int, lot: range):
    """A suspect that knows the labels of the first `known` triggers of a lot."""
    images, labels = key.triggers()
    wrong = (labels + 1) % key.classes
    wrong[lot[0] : lot[0] + known] = labels[lot[0] : lot[0] + known]
    table = {image.numpy().tobytes(): int(y) for image, y in zip(images, wrong, strict=True)}
    return lambda asked: torch.tensor(
        [table[(image * 255).round().to(torch.uint8).numpy().tobytes()] for image in asked]
    )


@pytest.mark.parametrize(("known", "verified"), [(0, False), (16, False), (17, True), (20, True)])
def test_the_verdict_follows_the_rule(ada, tmp_path, known, verified):
    key = WatermarkKey.new(n=200, image_shape=SHAPE, owner=ada.public)
    claim = make_claim(key, ada)
    challenge = make_challenge(claim, "named:rival", "beacon")
    opening = disclose(key, claim, challenge, ada, BurnLedger(tmp_path / "b.json", key))
    suspect = _planted(key, known, challenge.indices)
    verdict = judge(claim, challenge, opening, suspect, public=ada.public, name="rival")
    assert (verdict.matches, verdict.n, verdict.needed) == (known, 20, 17)
    assert verdict.verified is verified
    assert verdict.p_value == binomial_tail(known, 20, 0.1)
    assert verdict.log2_alpha == pytest.approx(-40 - math.log2(10))
    assert verdict.verified == (verdict.log2_p <= verdict.log2_alpha)
    text = verdict.explain()
    assert f"lot {challenge.lot} of 10" in text
    assert text.startswith("VERIFIED" if verified else "NOT VERIFIED")


@pytest.mark.parametrize(
    ("alpha", "needed"), [(None, 17), (0.5, 17), (1e-12, 17), (1e-14, 18), (2e-19, 20)]
)
def test_a_judge_may_be_stricter_never_laxer(ada, tmp_path, alpha, needed):
    key = WatermarkKey.new(n=200, image_shape=SHAPE, owner=ada.public)
    claim = make_claim(key, ada)
    challenge = make_challenge(claim, "named:rival", "beacon")
    opening = disclose(key, claim, challenge, ada, BurnLedger(tmp_path / "b.json", key))
    suspect = _planted(key, 20, challenge.indices)
    verdict = judge(
        claim, challenge, opening, suspect, public=ada.public, name="rival", alpha=alpha
    )
    assert verdict.needed == needed


def test_a_verdict_names_the_beacon_of_the_key(ada, tmp_path):
    key = WatermarkKey.new(n=20, image_shape=SHAPE, owner=ada.public, beacon="round 7")
    claim = make_claim(key, ada)
    challenge = make_challenge(claim, "named:rival", "round 8")
    opening = disclose(key, claim, challenge, ada, BurnLedger(tmp_path / "b.json", key))
    suspect = _planted(key, 20, challenge.indices)
    verdict = judge(claim, challenge, opening, suspect, public=ada.public, name="rival")
    assert verdict.beacon == "round 7"
    assert "the public value round 7: nobody knew them before" in verdict.explain()


def test_triggers_hang_on_the_beacon():
    """So nobody can know them before it: images and labels change with its value, all of them."""
    secrets = [Secret(hashlib.sha256(b"%d" % i).digest()) for i in range(40)]
    drawn = [
        draw_triggers(KeyParameters(n=40, image_shape=SHAPE, beacon=beacon), bytes(32), secrets)
        for beacon in (None, "round 7", "round 8")
    ]
    for one, other in itertools.combinations(drawn, 2):
        assert not any(torch.equal(a, b) for a, b in zip(one[0], other[0], strict=True))
        assert (one[1] == other[1]).sum() < 20


@pytest.mark.parametrize("beacon", ["", "x" * 513, "a\nb", "\x1b[2J"])
def test_beacons_that_cannot_be_shown(beacon):
    with pytest.raises(InvalidInput, match="beacon"):
        WatermarkKey.new(n=20, image_shape=SHAPE, beacon=beacon)


def _super_uniform(p_values: list[float]) -> None:
    """P(p <= t) <= t, up to five standard deviations, at every level that could show a surplus."""
    for level in (0.5, 0.4, 0.33, 0.14, 0.05, 0.01, 0.002):
        share = sum(p <= level for p in p_values) / len(p_values)
        assert share <= level + 5 * math.sqrt(level * (1 - level) / len(p_values))


def _innocents():
    """Fixed models of all kinds, made before any key: linear, constant, lopsided."""
    weights = torch.randn(64, 10, generator=generator(0, "innocent"))
    linear = lambda images: (images.flatten(1) @ weights).argmax(1)  # noqa: E731
    constant = lambda images: torch.full((len(images),), 3)  # noqa: E731
    lopsided = lambda images: (images.flatten(1).mean(1) > 0.5).long() * 7  # noqa: E731
    return {"linear": linear, "constant": constant, "lopsided": lopsided}


@pytest.fixture(scope="module")
def matches():
    """Matches of innocent models in both lots of many random keys, as their openings show them."""
    found = {name: [] for name in _innocents()}
    parameters = KeyParameters(n=40, image_shape=SHAPE)
    for number in range(400):
        key = WatermarkKey(Secret(hashlib.sha256(b"key %d" % number).digest()), parameters)
        opened = open_triggers(key, range(40))
        images, labels = RevealedTriggers(key.parameters, key.tree().root, opened).triggers()
        for name, model in _innocents().items():
            right = model(images.float() / 255) == labels
            found[name].append((int(right[:20].sum()), int(right[20:].sum())))
    return found


@pytest.mark.parametrize("name", ["linear", "constant", "lopsided"])
def test_p_values_of_innocent_models_are_super_uniform(matches, name):
    p_values = [binomial_tail(one, 20, 0.1) for pair in matches[name] for one in pair]
    _super_uniform(p_values)
    # Exact, and not merely cautious: the mean number of matches is that of chance.
    total = sum(sum(pair) for pair in matches[name])
    trials = 40 * len(matches[name])
    assert abs(total - trials / 10) < 5 * math.sqrt(trials * 0.09)


@pytest.mark.parametrize("name", ["linear", "constant", "lopsided"])
def test_an_owner_who_picks_the_best_lot_gains_nothing(matches, name):
    """Without the division by the number of lots, choosing would raise the chance: it does not."""
    best = [min(1.0, 2 * binomial_tail(max(pair), 20, 0.1)) for pair in matches[name]]
    _super_uniform(best)
    uncorrected = [binomial_tail(max(pair), 20, 0.1) for pair in matches[name]]
    with pytest.raises(AssertionError):
        _super_uniform(uncorrected)


def test_statements_refuse_lots_larger_than_the_key():
    with pytest.raises(InvalidInput, match="more than the key has"):
        Statement.from_dict(
            {
                "key": {"n": 10},
                "root": "0" * 64,
                "log2_alpha": -30.0,
                "disclosure": {"size": 11, "log2_alpha": -30.0},
            }
        )
