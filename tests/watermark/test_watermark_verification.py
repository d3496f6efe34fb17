"""Verification: exact statistics, wrong keys, innocent models, unsuitable suspects."""

import hashlib
import json
import math
from collections import Counter

import pytest
import torch
from torch import nn

from doorward.bundles.identity import Identity
from doorward.errors import IntegrityError, InvalidInput, ModelUnsuitable
from doorward.metrics import binomial_tail
from doorward.models import create
from doorward.randomness import Secret
from doorward.watermark.claim import Claim, make_claim
from doorward.watermark.key import KeyParameters, WatermarkKey
from doorward.watermark.verdict import Verdict
from doorward.watermark.verification import count_matches, verify

SHAPE = (1, 16, 16)


class Parrot:
    """A suspect that knows the labels of the first `known` triggers and answers 0 otherwise."""

    def __init__(self, key: WatermarkKey, known: int):
        images, labels = key.triggers()
        wrong = (labels + 1) % key.classes
        wrong[:known] = labels[:known]
        self.table = dict(zip(map(self._name, images), wrong.tolist(), strict=True))
        self.asked = []

    @staticmethod
    def _name(image):
        return image.numpy().tobytes()

    def __call__(self, images):
        names = [self._name((image * 255).round().to(torch.uint8)) for image in images]
        self.asked += names
        return torch.tensor([self.table[name] for name in names])


@pytest.fixture(scope="module")
def ada():
    return Identity.new("Ada")


@pytest.fixture(scope="module")
def key(ada):
    return WatermarkKey.new(n=100, image_shape=SHAPE, owner=ada.public)


@pytest.fixture(scope="module")
def claim(key, ada):
    return make_claim(key, ada)


@pytest.mark.parametrize(
    ("known", "verified"), [(0, False), (45, False), (46, True), (99, True), (100, True)]
)
def test_the_rule_of_the_claim_decides(claim, key, ada, known, verified):
    verdict = verify(claim, key, Parrot(key, known), public=ada.public)
    assert verdict.matches == known
    assert verdict.verified is verified
    assert verdict.needed == 46
    assert verdict.p_value == pytest.approx(binomial_tail(known, 100, 0.1), rel=1e-12)
    if known:
        assert verdict.log2_p == pytest.approx(math.log2(verdict.p_value), rel=1e-9)
    assert verdict.interval[0] <= known / 100 <= verdict.interval[1]


@pytest.mark.parametrize(("alpha", "needed"), [(None, 46), (1e-9, 46), (2.0**-80, 51), (0.5, 46)])
def test_the_stricter_of_two_rules_decides(claim, key, ada, alpha, needed):
    """A judge may ask for more than the claimant offered, never for less."""
    for known, verified in ((needed - 1, False), (needed, True)):
        verdict = verify(claim, key, Parrot(key, known), public=ada.public, alpha=alpha)
        assert (verdict.needed, verdict.verified) == (needed, verified)


@pytest.mark.parametrize("alpha", [0.0, 1.0, -1.0, math.nan, 1e-200])
def test_levels_that_cannot_be_are_refused(claim, key, ada, alpha):
    with pytest.raises(InvalidInput, match=r"alpha|never be met"):
        verify(claim, key, Parrot(key, 0), public=ada.public, alpha=alpha)


def test_all_matches_by_hand(claim, key, ada):
    """100 of 100 at L = 10: p = 10^-100, and Clopper-Pearson's lower end is 0.025^(1/100)."""
    verdict = verify(claim, key, Parrot(key, 100), public=ada.public)
    assert verdict.p_value == pytest.approx(1e-100, rel=1e-12)
    assert verdict.log2_p == pytest.approx(-100 * math.log2(10), rel=1e-12)
    assert verdict.interval == pytest.approx((0.025 ** (1 / 100), 1.0), rel=1e-6)


def test_each_trigger_is_asked_once_in_an_order_of_its_own(key):
    suspects = [Parrot(key, 100) for _ in range(2)]
    for suspect in suspects:
        count_matches(key, suspect)
        assert Counter(suspect.asked) == Counter(suspect.table.keys())
    assert suspects[0].asked != suspects[1].asked
    assert suspects[0].asked != list(suspects[0].table)


@pytest.mark.parametrize("answer", range(10))
def test_a_constant_predictor_is_not_verified(claim, key, ada, answer):
    verdict = verify(
        claim, key, lambda images: torch.full((len(images),), answer), public=ada.public
    )
    assert not verdict.verified
    assert verdict.log2_p > -40


def test_an_independent_model_is_not_verified(claim, key, ada):
    for seed in range(5):
        model = create("resnet8", classes=10, input_shape=SHAPE, width=4, seed=seed)
        verdict = verify(claim, key, model, public=ada.public)
        assert verdict.commitment_opened
        assert not verdict.verified


def test_a_wrong_key_does_not_open_the_commitment(claim, ada, key):
    def never(images):
        raise AssertionError("the suspect was asked")

    other = WatermarkKey.new(n=100, image_shape=SHAPE, owner=ada.public)
    verdict = verify(claim, other, never, public=ada.public)
    assert (verdict.verified, verdict.commitment_opened) == (False, False)
    assert (
        verdict.matches is verdict.p_value is verdict.interval is verdict.trigger_accuracy is None
    )
    assert "does not open" in verdict.reason
    assert verdict.explain().startswith("NOT VERIFIED")


def test_a_key_with_other_parameters_does_not_open_it(claim, key, ada):
    """The very same seed, said to be for another owner, gives other triggers."""
    stolen = WatermarkKey(
        key._seed,
        KeyParameters(n=100, image_shape=SHAPE, owner=Identity.new("Eve").public.fingerprint),
    )
    assert not verify(claim, stolen, Parrot(key, 100), public=ada.public).commitment_opened


def test_tampered_claims_and_wrong_owners_raise(claim, key, ada, tmp_path):
    with pytest.raises(IntegrityError):
        verify(claim, key, Parrot(key, 100), public=Identity.new("Ada").public)
    document = json.loads(json.dumps(dict(claim.document)))
    document["content"]["log2_alpha"] = -1.0
    (tmp_path / "claim.json").write_text(json.dumps(document))
    with pytest.raises(IntegrityError):
        verify(tmp_path / "claim.json", key, Parrot(key, 100), public=ada.public)
    with pytest.raises(IntegrityError):
        verify(Claim.from_document(document), key, Parrot(key, 100), public=ada.public)


def test_a_claim_file_will_do(claim, key, ada, tmp_path):
    claim.save(tmp_path / "claim.json")
    assert verify(tmp_path / "claim.json", key, Parrot(key, 50), public=ada.public).verified


@pytest.mark.parametrize(
    ("suspect", "error", "words"),
    [
        (lambda: create("resnet8", classes=7, input_shape=SHAPE, width=4), ModelUnsuitable, "7"),
        (lambda: create("resnet8", classes=10, width=4), InvalidInput, "16"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(256, 7)), ModelUnsuitable, "7 classes"),
        (lambda: lambda x: torch.full((len(x),), 10), ModelUnsuitable, "10 classes"),
        (lambda: lambda x: torch.full((len(x),), -1), ModelUnsuitable, "-1"),
    ],
    ids=["classes", "input size", "classes of a plain module", "too large", "negative"],
)
def test_unsuitable_suspects_are_explained(claim, key, ada, suspect, error, words):
    with pytest.raises(error, match=words):
        verify(claim, key, suspect(), public=ada.public)


@pytest.mark.parametrize(
    "answers",
    [lambda x: torch.zeros(3, dtype=torch.int64), lambda x: torch.zeros(len(x))],
    ids=["too few", "not whole numbers"],
)
def test_nonsense_answers_are_refused(claim, key, ada, answers):
    with pytest.raises((ModelUnsuitable, InvalidInput)):
        verify(claim, key, answers, public=ada.public)


def test_verdict_survives_json_and_explains_itself(claim, key, ada):
    verdict = verify(claim, key, Parrot(key, 60), public=ada.public)
    again = Verdict.from_dict(json.loads(json.dumps(verdict.to_dict())))
    assert again == verdict
    words = verdict.explain()
    for expected in ("VERIFIED. Ada", "60 of the 100", "about 10", "46 matches", "10^"):
        assert expected in words
    assert verdict.trigger_accuracy == 0.6
    innocent = verify(claim, key, Parrot(key, 8), public=ada.public).explain()
    assert innocent.startswith("NOT VERIFIED")
    assert "Chance explains" in innocent
    assert "own account" in words  # the date is the signer's, and nobody vouches for it
    assert verdict.root == claim.statement.root


def test_random_keys_on_fixed_models_follow_the_binomial():
    """1,000 keys: matches are Binomial(n, 1/L), whatever the model prefers."""
    n, classes, keys = 25, 10, 1000
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, classes)).requires_grad_(False)
    even = model[1].bias.clone()
    suspects = {"none": even.clone(), "strong": even.clone(), "constant": even.clone()}
    suspects["strong"][3] += 1.0
    suspects["constant"][3] += 100.0
    parameters = KeyParameters(n=n, classes=classes, image_shape=(1, 8, 8))
    matches = {name: [] for name in suspects}
    for number in range(keys):
        seed = Secret(hashlib.sha256(f"random key {number}".encode()).digest())
        key = WatermarkKey(seed, parameters)
        for name, bias in suspects.items():
            model[1].bias.copy_(bias)
            matches[name].append(count_matches(key, model))
    for name, counts in matches.items():
        assert _conforms(counts, n, classes), name


def _conforms(matches, n, classes):
    values = [binomial_tail(count, n, 1 / classes) for count in matches]
    assert min(values) > 1e-6
    for level in (0.5, 0.2, 0.05, 0.01, 0.001):
        below = sum(value <= level for value in values)
        # Super-uniform: at most `level` of the keys fall below it (here within 1 in 10^4).
        assert binomial_tail(below, len(matches), level) > 1e-4, level
    counts = Counter(min(count, 7) for count in matches)
    tails = [binomial_tail(count, n, 1 / classes) for count in range(8)] + [0.0]
    expected = [len(matches) * (tails[i] - (tails[i + 1] if i < 7 else 0.0)) for i in range(8)]
    chi_square = sum((counts[i] - expected[i]) ** 2 / expected[i] for i in range(8))
    return chi_square < 29.9  # 99.99 % point with 7 degrees of freedom
