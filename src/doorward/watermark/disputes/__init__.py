"""Disputes: claims that are false, and two owners of one model.

**False claims.** Try to claim models that are somebody else's, against keys and against the paper's
free choice of pictures (`FALSE_CLAIMS`):

>>> import torch
>>> from doorward.data import load
>>> from doorward.watermark.disputes import Scene, calibrate, matches_of_random_keys
>>> from doorward.watermark.disputes import try_false_claims
>>> digits = load("digits").sample(50, seed=0).resized(16)
>>> innocent = {"always 7": lambda images: torch.full((len(images),), 7)}
>>> scene = Scene(suspects=innocent, images=digits, n=30, keys=10, log2_alpha=-40.0)
>>> for claim in try_false_claims(scene, ["foreign-pictures", "ground-keys", "labels-read-off"]):
...     print(claim.scheme, claim.attack, claim.succeeded)
keyed foreign-pictures 0
keyed ground-keys 0
free-choice labels-read-off 1

Random keys on an innocent model follow the exact law, so a p-value is what it says:

>>> matches = matches_of_random_keys(innocent, scene.parameters, keys=50, seed=0)["always 7"]
>>> law = calibrate(matches, n=30, classes=10)
>>> law.at_or_below(-20.0), law.ks_p > 0.001
(0, True)

**Piracy.** Both parties' marks are in the model; whose was there first? Time stamps by neutral
parties, the mark that is harder to forget, and models that the parties can show:

    result = settle(model, Party(claim=..., key=..., public=...), Party(...),
                    evidence=Evidence(stamps=[...], authorities=[...]), clean=images)
    print(result.explain())

An owner prepares for that day with `stamp_request` (RFC 3161) or a witness (`witness_claim`).
"""

# Importing an attack files it in FALSE_CLAIMS.
from doorward.watermark.disputes import freechoice as _freechoice  # noqa: F401
from doorward.watermark.disputes import keyed as _keyed  # noqa: F401
from doorward.watermark.disputes.adversarial import adversarial_triggers, push
from doorward.watermark.disputes.asymmetry import asymmetry_test, drills
from doorward.watermark.disputes.dating import (
    Dating,
    check_stamp,
    check_witness,
    claim_digest,
    read_authorities,
    stamp_request,
    witness_claim,
)
from doorward.watermark.disputes.exhibits import Exhibit, Exhibits, compare_exhibits
from doorward.watermark.disputes.grinding import (
    GrindingPoint,
    expected_best,
    grinding_curve,
    log2_keys_needed,
    with_grinding,
)
from doorward.watermark.disputes.null import (
    Calibration,
    calibrate,
    matches_of_random_keys,
    random_keys,
)
from doorward.watermark.disputes.permutation import permutation_tail
from doorward.watermark.disputes.persistence import Asymmetry, Round, compare_survival
from doorward.watermark.disputes.pictures import ChosenPictures
from doorward.watermark.disputes.priority import Evidence, Priority, Timeline, decide_priority
from doorward.watermark.disputes.scene import (
    FALSE_CLAIMS,
    FalseClaim,
    Scene,
    Trial,
    try_false_claims,
)
from doorward.watermark.disputes.settlement import Settlement, settle
from doorward.watermark.disputes.weighing import Party, Vote

__all__ = [
    "FALSE_CLAIMS",
    "Asymmetry",
    "Calibration",
    "ChosenPictures",
    "Dating",
    "Evidence",
    "Exhibit",
    "Exhibits",
    "FalseClaim",
    "GrindingPoint",
    "Party",
    "Priority",
    "Round",
    "Scene",
    "Settlement",
    "Timeline",
    "Trial",
    "Vote",
    "adversarial_triggers",
    "asymmetry_test",
    "calibrate",
    "check_stamp",
    "check_witness",
    "claim_digest",
    "compare_exhibits",
    "compare_survival",
    "decide_priority",
    "drills",
    "expected_best",
    "grinding_curve",
    "log2_keys_needed",
    "matches_of_random_keys",
    "permutation_tail",
    "push",
    "random_keys",
    "read_authorities",
    "settle",
    "stamp_request",
    "try_false_claims",
    "with_grinding",
    "witness_claim",
]
