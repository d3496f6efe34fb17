"""False claims where the claimant chooses: pictures and labels that innocent models agree with.

>>> from doorward.watermark.disputes import FALSE_CLAIMS
>>> FALSE_CLAIMS.summary("adversarial-pictures")
'Natural pictures pushed until surrogates give the labels, committed to in advance.'

The paper's scheme checks that labels are wrong and that the commitments open. All of these pass:
their pictures are abstract (no label is right), or natural under a wrong label.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from doorward.bundles import open_black_box
from doorward.errors import InvalidInput
from doorward.metrics import predict
from doorward.randomness import derive_seed, generator
from doorward.watermark.derivation import KeyParameters
from doorward.watermark.disputes.adversarial import adversarial_triggers
from doorward.watermark.disputes.null import random_keys
from doorward.watermark.disputes.pictures import ChosenPictures
from doorward.watermark.disputes.scene import FALSE_CLAIMS, FalseClaim, Scene, report

__all__ = [
    "adversarial_pictures",
    "labels_read_off",
    "one_label",
    "random_labels",
    "surrogate_labels",
]


@FALSE_CLAIMS.register("random-labels", scheme="free-choice")
def random_labels(scene: Scene) -> FalseClaim:
    """Abstract pictures under random labels: an honest claim on the wrong model."""
    draw = generator(scene.seed, "random labels")
    labels = torch.randint(0, scene.classes, (scene.n,), generator=draw)
    chosen = _chosen(scene, _abstract(scene, scene.n), labels)
    trials = [scene.trial(name, chosen) for name in scene.suspects]
    reason = "Labels that nobody fitted to a model match by chance only."
    return report(scene, "random-labels", "free-choice", trials, reason)


@FALSE_CLAIMS.register("adversarial-pictures", scheme="free-choice", surrogates=True)
def adversarial_pictures(scene: Scene) -> FalseClaim:
    """Natural pictures pushed until surrogates give the labels, committed to in advance.

    Liu et al. (2024); see `adversarial_triggers`.
    """
    chosen = adversarial_triggers(
        _surrogates(scene),
        scene.images,
        scene.n,
        candidates=scene.candidates,
        eps=scene.eps,
        steps=scene.steps,
        seed=scene.seed,
    )
    trials = [scene.trial(name, chosen) for name in scene.suspects]
    reason = (
        "Adversarial pictures transfer between models. Commitment and time stamp are in order, as "
        "pictures and labels were fixed before the suspect existed; only their choice was free."
    )
    return report(scene, "adversarial-pictures", "free-choice", trials, reason, scene.candidates)


@FALSE_CLAIMS.register("surrogate-labels", scheme="free-choice", surrogates=True)
def surrogate_labels(scene: Scene) -> FalseClaim:
    """Abstract pictures under the labels that surrogates give them anyway."""
    pictures = _abstract(scene, scene.n * scene.candidates)
    chances = _opinion(_surrogates(scene), pictures)
    sure = chances.amax(1)
    best = sure.topk(scene.n).indices
    chosen = _chosen(scene, pictures[best], chances[best].argmax(1))
    trials = [scene.trial(name, chosen) for name in scene.suspects]
    reason = (
        "Models of one task agree even on meaningless pictures, so labels that follow a surrogate "
        "are no secret of anybody's."
    )
    return report(scene, "surrogate-labels", "free-choice", trials, reason, scene.candidates)


@FALSE_CLAIMS.register("one-label", scheme="free-choice", surrogates=True)
def one_label(scene: Scene) -> FalseClaim:
    """Abstract pictures all under the one label that surrogates prefer for such pictures."""
    pictures = _abstract(scene, scene.n)
    answers = _opinion(_surrogates(scene), pictures).argmax(1)
    favourite = int(answers.bincount(minlength=scene.classes).argmax())
    chosen = _chosen(scene, pictures, torch.full((scene.n,), favourite))
    trials = [scene.trial(name, chosen) for name in scene.suspects]
    reason = (
        "Unbalanced labels match every model that prefers the same class for meaningless pictures, "
        "and a constant predictor always."
    )
    return report(scene, "one-label", "free-choice", trials, reason)


@FALSE_CLAIMS.register("labels-read-off", scheme="free-choice")
def labels_read_off(scene: Scene) -> FalseClaim:
    """Abstract pictures under the labels that the suspect itself gives: made after seeing it."""
    pictures = _abstract(scene, scene.n)
    trials = []
    for name, suspect in scene.suspects.items():
        answers = open_black_box(suspect).labels(pictures.float() / 255)
        trials.append(scene.trial(name, _chosen(scene, pictures, answers)))
    reason = (
        "Whoever has seen a model can copy its answers. Only a time stamp, which shows that the "
        "claim is younger than the model, stands against this."
    )
    return report(scene, "labels-read-off", "free-choice", trials, reason)


def _abstract(scene: Scene, count: int) -> Tensor:
    """Abstract pictures, uint8 ``(count, C, H, W)``: those of a key, without its labels."""
    shape = scene.images.image_shape
    parameters = KeyParameters(n=count, classes=scene.classes, image_shape=shape)
    (key,) = random_keys(parameters, 1, seed=derive_seed(scene.seed, "abstract pictures"))
    return key.triggers()[0]


def _chosen(scene: Scene, images: Tensor, labels: Tensor) -> ChosenPictures:
    return ChosenPictures(images=images, labels=labels, num_classes=scene.classes)


def _opinion(surrogates: Sequence[nn.Module], pictures: Tensor) -> Tensor:
    """Mean probabilities of the surrogates, ``(N, K)``."""
    images = pictures.float() / 255
    return torch.stack([predict(model, images).softmax(1) for model in surrogates]).mean(0)


def _surrogates(scene: Scene) -> Sequence[nn.Module]:
    if not scene.surrogates:
        raise InvalidInput(
            "the accuser has no surrogate",
            why="this attack follows models that he trained himself",
            remedy="give the scene at least one",
        )
    return scene.surrogates
