"""False claims: who accuses whom, with what, and what became of it.

`FALSE_CLAIMS` lists the ways of claiming a model that is not one's own, against the paper's scheme
(anybody chooses pictures and labels) and against keys:

>>> from doorward.watermark.disputes import FALSE_CLAIMS
>>> [name for name in FALSE_CLAIMS if FALSE_CLAIMS.facts(name)["scheme"] == "keyed"]
['chosen-secrets', 'constant-suspects', 'foreign-pictures', 'ground-keys', 'random-key']

An entry is a function of a `Scene`; a new one is a function with the decorator, in a file that
`doorward.watermark.disputes` imports:

    @FALSE_CLAIMS.register("my-trick", scheme="keyed")
    def my_trick(scene: Scene) -> FalseClaim: ...
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass as plain_dataclass
from typing import Any, Literal

from pydantic.dataclasses import dataclass
from torch import nn

from doorward.data import ImageData
from doorward.errors import InvalidInput
from doorward.metrics import binomial_tail_log2
from doorward.records import STRICT, Record
from doorward.registry import Registry
from doorward.watermark.derivation import KeyParameters
from doorward.watermark.lots import WEAKEST, matches_needed
from doorward.watermark.triggerset import TriggerSet
from doorward.watermark.verification import count_matches

__all__ = ["FALSE_CLAIMS", "FalseClaim", "Scene", "Trial", "try_false_claims"]

Scheme = Literal["free-choice", "keyed"]


@plain_dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """An accuser, the models that are not his, and the rule of the court.

    Args:
        suspects: name -> independent model: a module, a bundle's folder, an ``.onnx`` file, an
            ``http(s)://`` endpoint or a callable. None was trained on any trigger of the accuser's.
        images: labelled natural pictures that the accuser has.
        surrogates: models that he trained himself; some attacks need one or more.
        n: triggers of each claim.
        keys: how many keys he draws where he may draw many.
        log2_alpha: the rule: log2 of the p-value that counts as proof.
        candidates: pictures he makes per trigger where he may choose the best.
        eps: largest change of a pixel of his adversarial pictures.
        steps: of the adversarial attack.
        seed: of everything random.

    Raises:
        InvalidInput: no suspects, or a rule that no claim may have or `n` triggers never satisfy.
    """

    suspects: Mapping[str, Any]
    images: ImageData
    surrogates: Sequence[nn.Module] = ()
    n: int = 100
    keys: int = 100
    log2_alpha: float = -64.0
    candidates: int = 5
    eps: float = 16 / 255
    steps: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.suspects:
            raise InvalidInput("nobody is accused", remedy="give at least one suspect")
        if self.keys < 1 or self.n < 1 or self.candidates < 1:
            raise InvalidInput(
                f"{self.n} triggers, {self.keys} keys, {self.candidates} candidates",
                why="at least one of each is needed",
            )
        weak = self.log2_alpha > WEAKEST
        if weak or matches_needed(self.n, self.classes, self.log2_alpha) is None:
            raise InvalidInput(
                f"the rule 2^{self.log2_alpha:g} is of no use with {self.n} triggers",
                why=f"no claim may have a weaker one than 2^{WEAKEST}"
                if weak
                else "not even all matches would satisfy it",
                remedy="give a stricter rule" if weak else "give more triggers, or a weaker rule",
            )

    @property
    def classes(self) -> int:
        """Number of classes L."""
        return self.images.num_classes

    @property
    def parameters(self) -> KeyParameters:
        """Of the keys that the accuser draws."""
        return KeyParameters(n=self.n, classes=self.classes, image_shape=self.images.image_shape)

    @property
    def needed(self) -> int:
        """Matches that the rule asks for."""
        return matches_needed(self.n, self.classes, self.log2_alpha) or self.n + 1

    def trial(self, suspect: str, triggers: TriggerSet, *, tries: int = 1) -> Trial:
        """Ask one suspect and judge by the rule, as if the labels had been drawn at random."""
        return self.judged(suspect, count_matches(triggers, self.suspects[suspect]), tries=tries)

    def judged(self, suspect: str, matches: int, *, tries: int = 1) -> Trial:
        """The trial of a suspect that gave so many matches."""
        log2_p = binomial_tail_log2(matches, self.n, 1 / self.classes)
        return Trial(
            suspect=suspect,
            admitted=True,
            matches=matches,
            log2_p=log2_p,
            corrected=min(0.0, log2_p + math.log2(tries)),
            convinced=log2_p <= self.log2_alpha,
        )


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Trial(Record):
    """One false claim against one model.

    Attributes:
        suspect: name of the model.
        admitted: the judge looked at the claim at all.
        matches: triggers answered with the claimed label; None if not admitted.
        log2_p: log2 of the p-value that the court computes; None if not admitted.
        corrected: the same times the number of tries, which the court does not know.
        convinced: the claim succeeded.
    """

    suspect: str
    admitted: bool
    matches: int | None = None
    log2_p: float | None = None
    corrected: float | None = None
    convinced: bool = False


@dataclass(frozen=True, kw_only=True, config=STRICT)
class FalseClaim(Record):
    """What one way of claiming falsely achieved.

    Attributes:
        attack: its name in `FALSE_CLAIMS`.
        scheme: ``"free-choice"`` (pictures and labels of the claimant's choice, as in the paper) or
            ``"keyed"``.
        tries: how many triggers sets were drawn for each claim.
        n: triggers of a claim.
        needed: matches that the rule asks for.
        log2_alpha: the rule.
        trials: one per suspect.
        reason: why it failed, or succeeded, in plain words.
    """

    attack: str
    scheme: Scheme
    tries: int
    n: int
    needed: int
    log2_alpha: float
    trials: tuple[Trial, ...]
    reason: str

    @property
    def succeeded(self) -> int:
        """Number of innocent models that were convicted."""
        return sum(trial.convinced for trial in self.trials)

    @property
    def best_log2_p(self) -> float | None:
        """log2 of the smallest p-value; None if no claim was admitted."""
        values = [trial.log2_p for trial in self.trials if trial.log2_p is not None]
        return min(values, default=None)

    @property
    def match_rate(self) -> float | None:
        """Matches over triggers, averaged over the suspects that were asked."""
        values = [trial.matches / self.n for trial in self.trials if trial.matches is not None]
        return sum(values) / len(values) if values else None


Attack = Callable[[Scene], FalseClaim]

FALSE_CLAIMS: Registry[Attack] = Registry("false claim")
"""Ways to claim somebody else's model. Facts: ``scheme``, which scheme it is aimed at;
``surrogates``, true if the accuser needs models of his own."""


def try_false_claims(scene: Scene, attacks: Iterable[str] | None = None) -> tuple[FalseClaim, ...]:
    """Let the accuser try.

    Args:
        scene: who, whom, with what.
        attacks: names in `FALSE_CLAIMS`; None for all.

    Returns:
        What each attack achieved, in order.

    Raises:
        UnknownName: there is no such attack; said before the first one.
        InvalidInput: an attack needs surrogates or more pictures than the scene has.
        ModelUnsuitable, EndpointFailed: as `watermark.verify`.
    """
    chosen = [FALSE_CLAIMS[name] for name in (FALSE_CLAIMS if attacks is None else attacks)]
    return tuple(attack(scene) for attack in chosen)


def report(
    scene: Scene, attack: str, scheme: Scheme, trials: Iterable[Trial], reason: str, tries: int = 1
) -> FalseClaim:
    """The record of an attack in a scene."""
    return FalseClaim(
        attack=attack,
        scheme=scheme,
        tries=tries,
        n=scene.n,
        needed=scene.needed,
        log2_alpha=scene.log2_alpha,
        trials=tuple(trials),
        reason=reason,
    )
