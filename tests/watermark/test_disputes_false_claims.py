"""False claims as games: every known accuser against independent models, and what the rule says."""

import json

import pytest
import torch
from torch import nn

from doorward.bundles import Identity, MerkleTree, leaf, sign_document
from doorward.data import Augment, load
from doorward.errors import InvalidInput, UnknownName
from doorward.metrics import accuracy, binomial_tail_log2, predict
from doorward.training import Recipe, fit
from doorward.watermark.claim import PURPOSE, Claim, make_claim
from doorward.watermark.derivation import KeyParameters, draw_triggers
from doorward.watermark.disputes import (
    FALSE_CLAIMS,
    ChosenPictures,
    FalseClaim,
    Scene,
    adversarial_triggers,
    push,
    random_keys,
    try_false_claims,
)
from doorward.watermark.triggerset import TriggerSet
from doorward.watermark.verification import verify

SHAPE = (1, 8, 8)


def network(seed):
    """A few thousand weights for 8x8 pixels; made without touching the global generator."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
            nn.Flatten(), nn.Linear(512, 10),
        )  # fmt: skip


@pytest.fixture(scope="module")
def digits():
    return load("digits").resized(8)


@pytest.fixture(scope="module")
def models(digits):
    """Two surrogates of the accuser's and a suspect, all trained apart, on other images each."""
    augment = Augment(pad_crop=1, rotate=10)
    recipe = Recipe(epochs=8, batch_size=64, lr=0.1, augment=augment)
    trained = []
    for seed, part in enumerate(digits.split(450, 450, 450, seed=0)):
        model = network(seed)
        fit(model, None, part, recipe)
        trained.append(model)
    return trained


@pytest.fixture(scope="module")
def scene(digits, models):
    images = load("digits", split="test").resized(8)
    return Scene(
        suspects={"theirs": models[2], "always 3": lambda x: torch.full((len(x),), 3)},
        surrogates=models[:2],
        images=images,
        n=60,
        keys=40,
        log2_alpha=-64.0,
        candidates=3,
        eps=0.3,
        steps=10,
    )


@pytest.fixture(scope="module")
def outcomes(scene):
    return {claim.attack: claim for claim in try_false_claims(scene)}


@pytest.mark.parametrize("name", FALSE_CLAIMS.names())
def test_every_attack_is_reported(outcomes, name):
    claim = outcomes[name]
    assert claim.scheme == FALSE_CLAIMS.facts(name)["scheme"]
    assert FalseClaim.from_dict(json.loads(json.dumps(claim.to_dict()))) == claim
    assert FALSE_CLAIMS.summary(name)
    assert claim.reason.endswith(".")
    assert claim.needed == 35
    for trial in claim.trials:
        assert trial.convinced == (trial.admitted and trial.log2_p <= -64)
        if trial.admitted:
            assert trial.log2_p == binomial_tail_log2(trial.matches, 60, 0.1)
            assert trial.log2_p <= trial.corrected <= 0


@pytest.mark.parametrize(
    "name", [name for name in FALSE_CLAIMS if FALSE_CLAIMS.facts(name)["scheme"] == "keyed"]
)
def test_no_claim_by_key_comes_near(outcomes, name):
    claim = outcomes[name]
    assert claim.succeeded == 0
    assert claim.best_log2_p is None or claim.best_log2_p > -25


def test_free_choice_is_what_lets_false_claims_through(outcomes):
    """Adversarial pictures convict a model trained apart, on other images; copied labels do too."""
    adversarial = {t.suspect: t for t in outcomes["adversarial-pictures"].trials}
    assert adversarial["theirs"].convinced
    assert adversarial["theirs"].matches >= 35
    assert not adversarial["always 3"].convinced
    assert outcomes["labels-read-off"].succeeded == 2
    assert outcomes["labels-read-off"].match_rate == 1.0
    assert outcomes["random-labels"].succeeded == 0
    # Following a surrogate's preferences is far above chance, enough or not.
    assert outcomes["surrogate-labels"].trials[0].log2_p < -20


def test_unbalanced_labels_convict_a_constant_model_but_not_by_key(digits):
    always = {"always 3": lambda x: torch.full((len(x),), 3)}

    class Three(nn.Module):
        def forward(self, x):
            return torch.eye(10)[torch.full((len(x),), 3)]

    scene = Scene(suspects=always, surrogates=[Three()], images=digits, n=60)
    free, keyed = try_false_claims(scene, ["one-label", "constant-suspects"])
    assert (free.succeeded, free.match_rate) == (1, 1.0)
    assert keyed.succeeded == 0
    assert sum(trial.matches for trial in keyed.trials) == 60  # every label is somebody's


def test_foreign_pictures_are_not_even_looked_at(digits):
    """The suspect that would agree with them is asked by the accuser, never by the judge."""
    asked = []

    def suspect(images):
        asked.append(len(images))
        return torch.zeros(len(images), dtype=torch.int64)

    (claim,) = try_false_claims(
        Scene(suspects={"s": suspect}, images=digits, n=60), ["foreign-pictures"]
    )
    assert not claim.trials[0].admitted
    assert claim.match_rate is claim.best_log2_p is None
    assert asked == [60]


def test_an_object_that_plays_the_key_does_not_open_a_claim(models, digits):
    """Who hands in an object instead of secrets: its root may fit, its pictures are never drawn."""
    forged = adversarial_triggers(models[:2], digits, 60, candidates=1, steps=2)
    accuser = Identity.new("Eve")
    key = next(random_keys(KeyParameters(n=60, image_shape=SHAPE), 1, seed=0))
    content = {**make_claim(key, accuser).statement.to_dict(), "root": forged.commitment()}
    claim = Claim.from_document(sign_document(content, accuser, purpose=PURPOSE))
    verdict = verify(claim, key, models[2], public=accuser.public)
    assert not verdict.commitment_opened
    assert verdict.matches is None


def test_one_exchanged_secret_draws_every_label_anew():
    """Grinding trigger by trigger does not work: n L tries become L^n."""
    parameters = KeyParameters(n=60, image_shape=SHAPE)
    key = next(random_keys(parameters, 1, seed=0))
    secrets = [key.secret_of(i) for i in range(60)]
    changed = [*secrets[:-1], secrets[-1].derive("another")]

    def root(chosen):
        return MerkleTree([leaf(i, secret.reveal()) for i, secret in enumerate(chosen)]).root

    assert root(secrets).hex() == key.commitment()
    before = draw_triggers(parameters, root(secrets), secrets)
    after = draw_triggers(parameters, root(changed), changed)
    same = int((before[1][:-1] == after[1][:-1]).sum())
    assert same < 20  # of 59; 5.9 by chance
    assert not (before[0] == after[0]).flatten(1).all(1).any()  # and every picture


def test_ground_keys_do_as_well_as_expected(outcomes):
    """Best of 40 keys: more than the mean of 6, far below the 35 needed."""
    claim = outcomes["ground-keys"]
    assert claim.tries == 40
    for trial in claim.trials:
        assert 8 <= trial.matches <= 20
        assert trial.corrected > trial.log2_p
    assert "2^6" in claim.reason


def test_push_stays_within_its_bound_and_leaves_models_alone(models, digits):
    images, targets = digits.pixels(range(30)), (digits.labels[:30] + 1) % 10
    model = models[0]
    model.train()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    pushed = push([model], images, targets, eps=0.1, steps=5)
    assert model.training
    model.eval()
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert float((pushed - images).abs().max()) <= 0.1 + 1e-6
    assert 0 <= float(pushed.min()) <= float(pushed.max()) <= 1
    chances = [predict(model, x).softmax(1).gather(1, targets[:, None]) for x in (images, pushed)]
    assert (chances[1] > chances[0]).float().mean() > 0.9


def test_push_by_hand():
    """One linear pixel: the target's weight is positive, so the pixel rises by eps."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 2, bias=False))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[0.0], [1.0]]))
    pixel = torch.full((1, 1, 1, 1), 0.5)
    for target, expected in ((1, 0.6), (0, 0.4)):
        pushed = push([model], pixel, torch.tensor([target]), eps=0.1, steps=4)
        assert pushed.item() == pytest.approx(expected)


def test_adversarial_triggers_pass_the_paper_s_check_of_wrong_labels(models, digits):
    forged = adversarial_triggers(models[:1], digits, 20, candidates=2, eps=0.2, steps=4, seed=3)
    chosen = digits.sample(40, seed=3, balanced=False)
    images, labels = forged.triggers()
    assert isinstance(forged, TriggerSet)
    for image, label in zip(images, labels, strict=True):
        distance = (chosen.images.float() - image.float()).abs().amax((1, 2, 3))
        nearest = int(distance.argmin())
        assert float(distance[nearest]) <= 0.2 * 255 + 1
        assert int(label) != int(chosen.labels[nearest])
    again = adversarial_triggers(models[:1], digits, 20, candidates=2, eps=0.2, steps=4, seed=3)
    assert torch.equal(again.triggers()[0], images)
    assert again.commitment() != forged.commitment()  # a salt of its own


def test_the_models_of_this_file_are_worth_accusing(models, digits):
    for model in models:
        assert accuracy(model, digits) > 0.6


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"suspects": {}}, "nobody"),
        ({"keys": 0}, "at least one"),
        ({"n": 5}, "not even all"),
        ({"log2_alpha": -10.0}, "weaker"),
    ],
)
def test_scenes_that_make_no_sense(digits, fields, words):
    with pytest.raises(InvalidInput, match=words):
        Scene(**{"suspects": {"s": len}, "images": digits, **fields})


def test_what_an_attack_needs_is_said(digits):
    scene = Scene(suspects={"s": lambda x: torch.zeros(len(x), dtype=torch.int64)}, images=digits)
    for name in FALSE_CLAIMS:
        if FALSE_CLAIMS.facts(name).get("surrogates"):
            with pytest.raises(InvalidInput, match="no surrogate"):
                try_false_claims(scene, [name])
    with pytest.raises(UnknownName, match="random-key"):
        try_false_claims(scene, ["random-keys"])


def test_targets_are_wrong_labels_and_random_ones_spread(models, digits):
    forged = [
        adversarial_triggers(models[:1], digits, 60, candidates=1, targets=kind, steps=1)
        for kind in ("easiest", "random")
    ]
    truth = digits.sample(60, seed=0, balanced=False)
    for one in forged:
        assert sorted(truth.labels.tolist()) != sorted(one.labels.tolist())
    assert len(forged[1].labels.unique()) == 10
    sure = [
        (predict(models[0], one.images.float() / 255).argmax(1) == one.labels) for one in forged
    ]
    assert sure[0].sum() >= sure[1].sum()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n": 0}, "0 triggers"),
        ({"candidates": 0}, "candidates"),
        ({"n": 2000}, "pictures"),
        ({"eps": 0.0}, "eps"),
        ({"steps": 0}, "step"),
        ({"targets": "hardest"}, "easiest"),
    ],
)
def test_bad_attacks_are_refused(models, digits, changes, words):
    arguments = {"n": 5, "candidates": 1, **changes}
    with pytest.raises(InvalidInput, match=words):
        adversarial_triggers(models[:1], digits, **arguments)


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (torch.zeros(2, 1, 8, 8), torch.zeros(2, dtype=torch.int64)),
        (torch.zeros(2, 8, 8, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64)),
        (torch.zeros(0, 1, 8, 8, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64)),
        (torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64)),
        (torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.zeros(2)),
        (torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, 10])),
        (torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.tensor([-1, 0])),
    ],
)
def test_pictures_that_are_none(images, labels):
    with pytest.raises(InvalidInput):
        ChosenPictures(images=images, labels=labels, num_classes=10)
