"""False claims against keys: every way in, and why it is closed.

>>> from doorward.watermark.disputes import FALSE_CLAIMS
>>> FALSE_CLAIMS.summary("chosen-secrets")
"Each trigger's secret chosen so that its label suits a surrogate; then the root is taken."

Trigger and label follow from a secret and from the Merkle root over all secrets. So pictures cannot
be handed in at all (`foreign_pictures`), labels cannot be chosen one by one (`chosen_secrets`), and
what remains is to draw whole keys and hope (`ground_keys`): 2^64 of them by the default rule.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from doorward.bundles import Identity, MerkleTree, leaf, open_black_box, sign_document
from doorward.randomness import Secret, derive_seed, generator
from doorward.watermark.claim import PURPOSE, Claim, make_claim
from doorward.watermark.derivation import draw_triggers
from doorward.watermark.disputes.grinding import log2_keys_needed
from doorward.watermark.disputes.null import matches_of_random_keys, random_keys
from doorward.watermark.disputes.pictures import ChosenPictures
from doorward.watermark.disputes.scene import FALSE_CLAIMS, FalseClaim, Scene, Trial, report
from doorward.watermark.key import WatermarkKey
from doorward.watermark.verification import count_matches, verify

__all__ = [
    "chosen_secrets",
    "constant_suspects",
    "foreign_pictures",
    "ground_keys",
    "random_key",
]


_MOST_TRIES = 12
"""Secrets tried for one trigger, per class: (1 - 1/L)^(12 L) leaves fewer than 1 in 100,000."""


@FALSE_CLAIMS.register("random-key", scheme="keyed")
def random_key(scene: Scene) -> FalseClaim:
    """One key, drawn and claimed before any suspect exists."""
    (key,) = random_keys(scene.parameters, 1, seed=derive_seed(scene.seed, "one key"))
    trials = [_tried(scene, name, key) for name in scene.suspects]
    reason = "A key that took no part in the training matches by chance only."
    return report(scene, "random-key", "keyed", trials, reason)


@FALSE_CLAIMS.register("ground-keys", scheme="keyed")
def ground_keys(scene: Scene) -> FalseClaim:
    """Many keys, drawn after seeing the suspect; the one that suits it best is claimed."""
    seed = derive_seed(scene.seed, "ground keys")
    found = matches_of_random_keys(scene.suspects, scene.parameters, scene.keys, seed=seed)
    best = {name: int(matches.argmax()) for name, matches in found.items()}
    keys = list(random_keys(scene.parameters, max(best.values()) + 1, seed=seed))
    trials = [_tried(scene, name, keys[place], scene.keys) for name, place in best.items()]
    bits = log2_keys_needed(scene.n, scene.classes, scene.log2_alpha)
    reason = (
        f"{scene.keys} keys multiply the chance by {scene.keys}; the rule allows for more: "
        f"2^{bits:.1f} keys have to be drawn on average until one satisfies it."
    )
    return report(scene, "ground-keys", "keyed", trials, reason, scene.keys)


@FALSE_CLAIMS.register("foreign-pictures", scheme="keyed")
def foreign_pictures(scene: Scene) -> FalseClaim:
    """A signed claim over pictures that suit the suspect, opened with a key without them.

    The pictures' own commitment stands in the claim's root; nobody can tell it from a key's.
    """
    accuser = Identity.new("accuser")
    (key,) = random_keys(scene.parameters, 1, seed=derive_seed(scene.seed, "foreign pictures"))
    pictures = key.triggers()[0]
    trials = []
    for name, suspect in scene.suspects.items():
        answers = open_black_box(suspect).labels(pictures.float() / 255)
        wanted = ChosenPictures(images=pictures, labels=answers, num_classes=scene.classes)
        claim = _claim_over(scene, wanted.commitment(), key, accuser)
        verdict = verify(claim, key, suspect, public=accuser.public)
        trials.append(
            Trial(
                suspect=name,
                admitted=verdict.commitment_opened,
                matches=verdict.matches,
                log2_p=verdict.log2_p,
                corrected=verdict.log2_p,
                convinced=verdict.verified,
            )
        )
    reason = (
        "The judge draws the pictures himself, from the opened key. No key is known whose root is "
        "the commitment to given pictures (that would be a preimage of SHA-256), so nothing opens "
        "the claim, and the suspect is not even asked."
    )
    return report(scene, "foreign-pictures", "keyed", trials, reason)


@FALSE_CLAIMS.register("chosen-secrets", scheme="keyed")
def chosen_secrets(scene: Scene) -> FalseClaim:
    """Each trigger's secret chosen so that its label suits a surrogate; then the root is taken.

    Under the root he started from, the accuser finds such a secret after about L tries a trigger,
    n L in all. But the secrets that he chose have another root, and it draws all labels anew.
    """
    adviser = next(iter([*scene.surrogates, *scene.suspects.values()]))
    secrets = [_secret(scene, place, 0) for place in range(scene.n)]
    start = _root(secrets)
    tries = _fit(scene, adviser, start, secrets)
    fitted = count_matches(_drawn(scene, start, secrets), adviser)
    after = _drawn(scene, _root(secrets), secrets)
    trials = [scene.trial(name, after, tries=tries) for name in scene.suspects]
    reason = (
        f"After {tries} secrets {fitted} of {scene.n} labels suited the model he looked at, under "
        "the root he began with. Their own root gives every trigger another picture and label: all "
        "that was gained is gone. To choose secrets is to draw a whole key again."
    )
    return report(scene, "chosen-secrets", "keyed", trials, reason, tries)


@FALSE_CLAIMS.register("constant-suspects", scheme="keyed")
def constant_suspects(scene: Scene) -> FalseClaim:
    """Models that always answer the same class: the suspects easiest to foresee."""
    (key,) = random_keys(scene.parameters, 1, seed=derive_seed(scene.seed, "constant"))
    labels = key.triggers()[1]
    counts = torch.bincount(labels, minlength=scene.classes).tolist()
    trials = [scene.judged(f"always {c}", matches) for c, matches in enumerate(counts)]
    reason = (
        "Which labels a key holds is drawn, so a model's preferences, however strong, do not help: "
        f"of this key's {scene.n} labels the commonest class has {max(counts)}, and "
        f"{scene.needed} matches are needed."
    )
    return report(scene, "constant-suspects", "keyed", trials, reason)


def _tried(scene: Scene, name: str, key: WatermarkKey, tries: int = 1) -> Trial:
    """A claim made, signed and judged as any other."""
    accuser = Identity.new("accuser")
    claim = make_claim(key, accuser, alpha=2.0**scene.log2_alpha)
    verdict = verify(claim, key, scene.suspects[name], public=accuser.public)
    log2_p = verdict.log2_p
    return Trial(
        suspect=name,
        admitted=verdict.commitment_opened,
        matches=verdict.matches,
        log2_p=log2_p,
        corrected=None if log2_p is None else min(0.0, log2_p + math.log2(tries)),
        convinced=verdict.verified,
    )


def _claim_over(scene: Scene, root: str, key: WatermarkKey, accuser: Identity) -> Claim:
    """A claim as `make_claim` signs it, over a root of the accuser's choice."""
    honest = make_claim(key, accuser, alpha=2.0**scene.log2_alpha).document["content"]
    return Claim.from_document(sign_document({**honest, "root": root}, accuser, purpose=PURPOSE))


def _fit(scene: Scene, adviser: Any, root: bytes, secrets: list[Secret]) -> int:
    """Exchange secrets until every label under `root` is the adviser's answer; count the tries."""
    box = open_black_box(adviser)
    unsuited, tries = list(range(scene.n)), 0
    for number in range(1, _MOST_TRIES * scene.classes):
        offers = [_secret(scene, place, number) for place in unsuited]
        images, labels = draw_triggers(scene.parameters, root, offers)
        suits = box.labels(images.float() / 255) == labels
        for place, offer in zip(unsuited, offers, strict=True):
            secrets[place] = offer
        tries += len(offers)
        unsuited = [place for place, good in zip(unsuited, suits.tolist(), strict=True) if not good]
        if not unsuited:
            break
    return tries


def _secret(scene: Scene, place: int, number: int) -> Secret:
    draw = generator(scene.seed, "chosen secrets", place, number)
    return Secret(bytes(torch.randint(0, 256, (32,), generator=draw).tolist()))


def _root(secrets: list[Secret]) -> bytes:
    return MerkleTree([leaf(i, secret.reveal()) for i, secret in enumerate(secrets)]).root


def _drawn(scene: Scene, root: bytes, secrets: list[Secret]) -> ChosenPictures:
    images, labels = draw_triggers(scene.parameters, root, secrets)
    return ChosenPictures(images=images, labels=labels, num_classes=scene.classes)
