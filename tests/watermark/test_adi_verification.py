"""Verify as in the paper: its three steps one by one, its games, and the p-value beside them."""

import math

import pytest
import torch

from doorward.bundles import Identity
from doorward.errors import BadFile, IntegrityError, InvalidInput, ModelUnsuitable
from doorward.models import create
from doorward.watermark.adi import PaperKey, PaperVerdict, paper_verify, publish

SHAPE = (1, 16, 16)
REFERENCE = (11, 8, 12, 14, 12, 10, 12, 9, 8, 4)
ABSTRACT = [None] * 100


class Parrot:
    """A suspect that knows the labels of the first `known` pictures, and is wrong on the others."""

    def __init__(self, key, known):
        images, labels = key.triggers()
        answers = (labels + 1) % key.classes
        answers[:known] = labels[:known]
        self.table = dict(zip((i.numpy().tobytes() for i in images), answers.tolist(), strict=True))
        self.asked = 0

    def __call__(self, images):
        self.asked += len(images)
        pictures = (images * 255).round().to(torch.uint8)
        return torch.tensor([self.table[picture.numpy().tobytes()] for picture in pictures])


def constant(answer):
    return lambda images: torch.full((len(images),), answer)


@pytest.fixture(scope="module")
def ada():
    return Identity.new("Ada")


@pytest.fixture(scope="module")
def key():
    return PaperKey.new(n=100, image_shape=SHAPE)


@pytest.fixture(scope="module")
def vk(key, ada):
    return publish(key, ada, epsilon=0.1)


@pytest.fixture(scope="module")
def reference(ada):
    """A key with the authors' unbalanced labels."""
    labels = torch.repeat_interleave(torch.arange(10), torch.tensor(REFERENCE))
    dealt = labels[torch.randperm(100, generator=torch.Generator().manual_seed(0))]
    key = PaperKey.new(n=100, image_shape=SHAPE, labels=dealt.tolist())
    return key, publish(key, ada, epsilon=0.1)


@pytest.mark.parametrize(("known", "accepted"), [(0, False), (89, False), (90, True), (100, True)])
def test_all_but_a_share_must_match(key, vk, ada, known, accepted):
    verdict = paper_verify(key, vk, Parrot(key, known), public=ada.public, judge=ABSTRACT)
    assert (verdict.matches, verdict.needed, verdict.accepted) == (known, 90, accepted)
    assert verdict.convincing is accepted
    assert (verdict.opened, verdict.judged, verdict.correct_labels) == (200, 0, ())
    assert verdict.explain().startswith("ACCEPTED." if accepted else "REJECTED.")
    assert PaperVerdict.from_dict(verdict.to_dict()) == verdict


def test_all_matches_by_hand(key, vk, ada):
    """100 of 100 uniform labels at L = 10: p = 10^-100; shuffled: one of 100!/(h_0! h_1! ...)."""
    verdict = paper_verify(key, vk, Parrot(key, 100), public=ada.public, judge=ABSTRACT)
    counts = torch.bincount(key.triggers()[1]).tolist()
    orders = math.factorial(100) // math.prod(map(math.factorial, counts))
    assert verdict.log2_p == pytest.approx(-100 * math.log2(10))
    assert verdict.log2_p_permutation == pytest.approx(-math.log2(orders))
    assert verdict.p_value == pytest.approx(1e-100)
    assert verdict.best_constant == max(counts)
    assert verdict.interval == pytest.approx((0.025 ** (1 / 100), 1.0), rel=1e-6)


@pytest.mark.parametrize(("own", "needed"), [(None, 90), (0.4, 90), (0.05, 95), (0.0, 100)])
def test_the_smaller_of_two_epsilons_decides(key, vk, ada, own, needed):
    for known in (needed - 1, needed):
        verdict = paper_verify(
            key, vk, Parrot(key, known), public=ada.public, judge=ABSTRACT, epsilon=own
        )
        assert (verdict.needed, verdict.accepted) == (needed, known == needed)


def test_step_1_one_true_label_rejects(key, vk, ada):
    """... and the suspect is not asked. A judge who sees no class, or another one, is satisfied."""
    labels = key.triggers()[1].tolist()
    suspect = Parrot(key, 100)
    truth = [(label + 3) % 10 for label in labels]
    for judge, accepted in ((ABSTRACT, True), (truth, True), ([*truth[:99], labels[99]], False)):
        verdict = paper_verify(key, vk, suspect, public=ada.public, judge=judge)
        assert verdict.accepted is accepted
    assert verdict.correct_labels == (99,)
    assert verdict.matches is None
    assert suspect.asked == 200
    assert "true" in verdict.explain()


def test_step_1_by_a_function_and_by_a_file(key, vk, ada, tmp_path):
    labels = key.triggers()[1]

    def looks(pictures):
        assert pictures.shape == (100, *SHAPE)
        answers = torch.full((100,), -1)
        answers[17] = labels[17]
        return answers

    path = tmp_path / "truth.txt"
    path.write_text("undefined\n" * 17 + f"{labels[17]}\n" + "undefined\n" * 82)
    for judge in (looks, path, str(path)):
        verdict = paper_verify(key, vk, Parrot(key, 100), public=ada.public, judge=judge)
        assert (verdict.accepted, verdict.judged, verdict.correct_labels) == (False, 1, (17,))


def test_without_a_judge_the_verdict_says_so(key, vk, ada):
    verdict = paper_verify(key, vk, Parrot(key, 100), public=ada.public)
    assert verdict.accepted
    assert verdict.correct_labels is None
    assert "Nobody judged" in verdict.explain()
    assert "a judge has yet to look" in verdict.reason


@pytest.mark.parametrize(
    "judge", [[None] * 99, [10] * 100, [0.5] * 100, ["cat"] * 100, [True] * 100, [-2] * 100]
)
def test_judges_that_talk_nonsense(key, vk, ada, judge):
    with pytest.raises(InvalidInput, match="the judge"):
        paper_verify(key, vk, Parrot(key, 100), public=ada.public, judge=judge)


def test_a_judges_file_with_nonsense(key, vk, ada, tmp_path):
    (tmp_path / "truth.txt").write_text("dog\n" * 100)
    with pytest.raises(BadFile, match="line 1"):
        paper_verify(key, vk, Parrot(key, 100), public=ada.public, judge=tmp_path / "truth.txt")


def test_known_classes_make_the_p_value_larger(key, vk, ada):
    """50 labels are known to be wrong, which happens by chance with probability 0.9^50."""
    labels = key.triggers()[1].tolist()
    truth = [(label + 1) % 10 for label in labels[:50]] + [None] * 50
    verdicts = [
        paper_verify(key, vk, Parrot(key, 95), public=ada.public, judge=judge)
        for judge in (ABSTRACT, truth)
    ]
    assert verdicts[1].log2_p - verdicts[0].log2_p == pytest.approx(-50 * math.log2(0.9))
    assert verdicts[1].log2_p_permutation > verdicts[0].log2_p_permutation


def test_step_2_another_key_opens_nothing(key, vk, ada):
    suspect = Parrot(key, 100)
    for other in (
        PaperKey.new(n=100, image_shape=SHAPE),
        PaperKey.new(n=99, image_shape=SHAPE),
        PaperKey.new(n=100, classes=11, image_shape=SHAPE),
    ):
        verdict = paper_verify(other, vk, suspect, public=ada.public, judge=ABSTRACT)
        assert (verdict.accepted, verdict.opened, verdict.matches) == (False, 0, None)
    assert suspect.asked == 0


def test_step_2_a_label_exchanged_after_the_fact(key, vk, ada):
    """Unforgeability: who sees the model cannot adapt the committed labels to it."""
    images, labels = key.triggers()
    suspect = constant(3)
    adapted = PaperKey(
        key.facts, images, torch.full_like(labels, 3), key.picture_salts, key.label_salts
    )
    verdict = paper_verify(adapted, vk, suspect, public=ada.public, judge=ABSTRACT)
    assert verdict.opened == 100 + int((labels == 3).sum())
    assert not verdict.accepted


def test_the_law_of_the_labels_cannot_be_exchanged(reference, key, ada):
    """The key says 'uniform' where the verification key says 'shuffled': another key."""
    shuffled, vk = reference
    images, labels = shuffled.triggers()
    other = PaperKey(key.facts, images, labels, shuffled.picture_salts, shuffled.label_salts)
    assert not paper_verify(other, vk, constant(0), public=ada.public).accepted


def test_somebody_elses_signature(key, vk):
    with pytest.raises(IntegrityError, match="somebody else"):
        paper_verify(key, vk, constant(0), public=Identity.new("Ada").public)


@pytest.mark.parametrize("answer", range(10))
def test_constant_classifiers_against_the_authors_labels(reference, ada, answer):
    """At most 14 of 100; under the permutation test with p = 1."""
    key, vk = reference
    verdict = paper_verify(key, vk, constant(answer), public=ada.public, judge=ABSTRACT)
    assert verdict.matches == REFERENCE[answer] <= verdict.best_constant == 14
    assert (verdict.law, verdict.log2_p, verdict.p_value) == ("shuffled", 0.0, 1.0)
    assert not verdict.accepted


@pytest.mark.parametrize("labels", [[4] * 100, [4] * 95 + [5] * 5])
def test_one_label_for_all_pictures_convinces_nobody(ada, labels):
    """The paper's rule accepts the constant model; its labels were to be random, and chance knows.

    So it is with an owner who wrongly says that such labels were drawn uniformly.
    """
    honest = PaperKey.new(n=100, image_shape=SHAPE, labels=labels)
    drawn = PaperKey.new(n=100, image_shape=SHAPE)
    images, numbers = honest.triggers()
    liar = PaperKey(drawn.facts, images, numbers, honest.picture_salts, honest.label_salts)
    for key in (honest, liar):
        verdict = paper_verify(
            key, publish(key, ada), constant(4), public=ada.public, judge=ABSTRACT
        )
        assert verdict.accepted
        assert verdict.log2_p_permutation == 0.0
        assert not verdict.convincing
        assert "NOT CONVINCING" in verdict.explain()


def test_a_small_key_is_accepted_but_does_not_convince(ada):
    key = PaperKey.new(n=4, image_shape=SHAPE)
    verdict = paper_verify(
        key, publish(key, ada), Parrot(key, 4), public=ada.public, judge=[None] * 4
    )
    assert verdict.accepted
    assert not verdict.convincing


def test_non_trivial_ownership(key, vk, ada):
    """A key from before the training does not verify on models trained without it."""
    for seed in range(5):
        model = create("resnet8", classes=10, input_shape=SHAPE, width=4, seed=seed)
        verdict = paper_verify(key, vk, model, public=ada.public, judge=ABSTRACT)
        assert not verdict.accepted
        # Five models, one key: a chance of 2^-20 each would be a fault, not bad luck.
        assert verdict.log2_p > -20


@pytest.mark.parametrize("epsilon", [0.5, -0.1, float("nan")])
def test_impossible_epsilons(key, vk, ada, epsilon):
    with pytest.raises(InvalidInput, match="epsilon"):
        paper_verify(key, vk, constant(0), public=ada.public, epsilon=epsilon)


@pytest.mark.parametrize(
    "suspect",
    [lambda images: torch.full((len(images),), 10), lambda images: torch.rand(len(images)),
     lambda images: torch.rand(len(images), 11), lambda images: [0]],
)  # fmt: skip
def test_unsuitable_suspects(key, vk, ada, suspect):
    with pytest.raises(ModelUnsuitable):
        paper_verify(key, vk, suspect, public=ada.public)


def test_a_suspect_with_other_classes_is_told_about_the_old_head(key, vk, ada):
    with pytest.raises(ModelUnsuitable, match="old head"):
        paper_verify(
            key, vk, create("resnet8", classes=4, input_shape=SHAPE, width=4), public=ada.public
        )
