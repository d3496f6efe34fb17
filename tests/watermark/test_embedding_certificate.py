"""Certificates: exact where the truth is known, honest about what was not drawn, kept in JSON."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, norm
from torch import nn

from doorward.errors import InvalidInput, ModelUnsuitable
from doorward.models import create
from doorward.randomness import Secret
from doorward.watermark import Certificate, KeyParameters, WatermarkKey, certify
from doorward.watermark.methods import matches_under_noise

SHAPE = (1, 8, 8)


@pytest.fixture
def key():
    return WatermarkKey(Secret(b"c" * 32), KeyParameters(n=4, classes=2, image_shape=SHAPE))


def confident(key, margin):
    """A linear model that gives every label with the same distance from the border.

    The difference of its two logits on trigger i is +-margin |(x_i, 1)| 2**0.5: a change d of the
    weights changes it by at most |d| |(x_i, 1)| 2**0.5, so the exact radius is `margin`.
    """
    images, labels = key.triggers()
    rows = torch.cat([images.flatten(1).double() / 255, torch.ones(key.n, 1)], 1)
    wanted = (2 * labels - 1) * margin * rows.norm(dim=1) * 2**0.5
    difference = torch.linalg.lstsq(rows, wanted[:, None].double()).solution[:, 0]
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2)).double()
    with torch.no_grad():
        model[1].weight.copy_(torch.stack([-difference[:-1] / 2, difference[:-1] / 2]))
        model[1].bias.copy_(torch.stack([-difference[-1] / 2, difference[-1] / 2]))
    return model.float()


def certificate(draws, **changes):
    facts = {
        "n": len(draws) - 1, "classes": 10, "parameters": 7, "sigma": 0.5, "confidence": 0.99,
        "draws": tuple(draws), "matches": len(draws) - 1, "seed": 0,
    }  # fmt: skip
    return Certificate(**{**facts, **changes})


def test_a_linear_model_has_a_known_radius(key):
    """One trigger: under noise it is right with probability Phi(margin / sigma), which is tight."""
    one = WatermarkKey(Secret(b"c" * 32), KeyParameters(n=1, classes=2, image_shape=SHAPE))
    model, sigma = confident(one, margin=0.3), 0.25
    found = certify(model, one, sigma=sigma, samples=2000, confidence=0.999)
    assert found.matches == 1
    assert found.draws[1] / 2000 == pytest.approx(norm.cdf(0.3 / sigma), abs=0.03)
    assert 0.25 < found.radius(1) <= 0.3
    assert found.parameters == 130
    assert found.radius(0) == math.inf


def test_the_certified_median_survives_the_worst_change_within_the_radius(key):
    model, sigma = confident(key, margin=0.3), 0.1
    found = certify(model, key, sigma=sigma, samples=400)
    radius = found.radius(4)
    assert 0 < radius < 0.3
    images, labels = key.triggers()
    for place in range(key.n):
        row = torch.cat([images[place].flatten().float() / 255, torch.ones(1)])
        worst = row / row.norm() * (1 - 2 * float(labels[place])) / 2**0.5
        for share, holds in ((0.99, True), (1.5 * 0.3 / radius, False)):
            changed = copy.deepcopy(model)
            with torch.no_grad():
                for output, sign in ((0, -1), (1, 1)):
                    changed[1].weight[output] += sign * share * radius * worst[:-1]
                    changed[1].bias[output] += sign * share * radius * worst[-1]
            moved = torch.cat([(p - q).flatten() for p, q in zip(
                changed.parameters(), model.parameters(), strict=True)])  # fmt: skip
            assert float(moved.detach().norm()) == pytest.approx(share * radius, rel=1e-3)
            under = matches_under_noise(changed, key, sigma=sigma, samples=200, seed=1)
            assert (under.median() >= 4) == holds


def test_radii_by_hand():
    found = certificate([0, 0, 50, 50, 900])
    for matches, hits in ((4, 900), (3, 950), (2, 1000)):
        low = norm.cdf(found.radius(matches) / 0.5)
        assert binom.sf(hits - 1, 1000, low) == pytest.approx(0.01, rel=1e-3)
    assert found.radius(2) == pytest.approx(0.5 * norm.ppf(0.01 ** (1 / 1000)))
    assert found.radius(5) == 0
    assert found.median == 4
    assert found.samples == 1000


def test_what_was_seen_in_half_the_draws_is_not_certified():
    found = certificate([500, 0, 0, 500])
    assert found.radius(1) == 0
    assert found.matches_within(0) == 0
    assert certificate([501, 0, 499]).median == 0
    assert "not certified" in found.explain(1)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 300), min_size=2, max_size=8).filter(sum),
    st.floats(0.01, 5),
    st.floats(0, 4),
    st.floats(0.51, 0.9999),
)
def test_radius_and_matches_are_two_sides_of_one_bound(draws, sigma, radius, confidence):
    """As the paper's code does it: the k-th smallest of the sorted results, k from the binomial."""
    found = certificate(draws, sigma=sigma, confidence=confidence)
    radii = [found.radius(matches) for matches in range(1, found.n + 1)]
    assert radii == sorted(radii, reverse=True)
    within = found.matches_within(radius)
    assert within == 0 or found.radius(within) >= radius
    assert within == found.n or found.radius(within + 1) <= radius
    chance = norm.cdf(-radius / sigma)  # of results below the median, at the worst place
    results = [matches for matches, count in enumerate(draws) for _ in range(count)]
    # At least `place` results are below a quantile with this chance, too seldom to be believed.
    places = binom.cdf(range(len(results)), len(results), chance) <= 1 - confidence
    expected = results[places.sum() - 1] if places.any() else 0
    if radius > 1e-3 and abs(found.radius(max(expected, 1)) - radius) > 1e-6:
        assert within == expected


def test_noise_does_not_change_the_model_and_depends_on_the_seed_alone():
    model = create("resnet8", classes=10, input_shape=(1, 16, 16), width=4).train()
    key = WatermarkKey(Secret(b"c" * 32), KeyParameters(n=100, image_shape=(1, 16, 16)))
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    first = matches_under_noise(model, key, sigma=0.1, samples=6, seed=3)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert model.training
    assert torch.equal(first[:4], matches_under_noise(model, key, sigma=0.1, samples=4, seed=3))
    other = matches_under_noise(model, key, sigma=0.1, samples=6, seed=4)
    assert not torch.equal(first, other)


def test_without_noise_it_counts_matches(key):
    assert matches_under_noise(confident(key, 0.1), key, sigma=0.0, samples=2).tolist() == [4, 4]
    assert matches_under_noise(confident(key, -0.1), key, sigma=0.0, samples=1).tolist() == [0]


def test_a_network_that_overflows_answers_nothing(key):
    model = confident(key, 0.1)
    with torch.no_grad():
        model[1].weight.mul_(math.inf)
    assert matches_under_noise(model, key, sigma=0.0, samples=1).tolist() == [0]


def test_certificates_are_records(key):
    found = certify(confident(key, 0.3), key, sigma=0.1, samples=50)
    assert Certificate.from_dict(found.to_dict()) == found
    text = found.explain(4)
    assert "4 of 4" in text
    assert f"{found.radius(4):.4g}" in text


@pytest.mark.parametrize(
    "change",
    [
        {"draws": (1, 2)},
        {"draws": (0, 0, 0)},
        {"draws": (-1, 2, 2)},
        {"matches": 3},
        {"sigma": 0.0},
        {"confidence": 0.5},
        {"confidence": 1.0},
        {"n": 0},
        {"extra": 1},
    ],
    ids=str,
)
def test_damaged_certificates_are_refused(change):
    content = certificate([1, 2, 3]).to_dict()
    with pytest.raises(InvalidInput):
        Certificate.from_dict({**content, **change})


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"sigma": 0.0}, InvalidInput, "sigma is 0"),
        ({"sigma": math.nan}, InvalidInput, "sigma is nan"),
        ({"samples": 0}, InvalidInput, "0 draws"),
        ({"confidence": 0.5}, InvalidInput, "confidence"),
        ({"model": nn.Sequential(nn.Flatten(), nn.Linear(64, 3))}, ModelUnsuitable, "3"),
        ({"model": nn.Sequential(nn.Flatten(), nn.Linear(49, 2))}, ModelUnsuitable, "8"),
    ],
    ids=str,
)
def test_bad_input_is_refused(key, change, error, words):
    arguments = {"model": confident(key, 0.1), "key": key, "sigma": 0.1} | change
    with pytest.raises(error, match=words):
        certify(**arguments)


@pytest.mark.parametrize("radius", [-1, math.nan])
def test_a_radius_is_a_length(radius):
    with pytest.raises(InvalidInput, match="radius"):
        certificate([0, 1]).matches_within(radius)
