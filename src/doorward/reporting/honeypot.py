"""The section about a honeypot: what users notice, what a copy learnt, and what that proves.

section = honeypot_section(fitted, curves, verdicts, amplitudes=levels, waves=bits, clean=test)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from doorward.reporting.blocks import Block, Note, Number, Numbers, Picture, Text, Verdict
from doorward.reporting.numerals import percent, power_of_two
from doorward.reporting.plots import Curve
from doorward.reporting.report import Section

if TYPE_CHECKING:
    from doorward.data import ImageData
    from doorward.extraction import StealResult
    from doorward.honeypot import LeanResult
    from doorward.honeypot import Verdict as Finding
    from doorward.honeypot.lean import Bit

__all__ = ["honeypot_section"]

_SHOWN = 9  # images under the waves
_LEVELS = 255


def honeypot_section(
    fitted: LeanResult,
    curves: Mapping[str, Sequence[float]],
    verdicts: Mapping[str, Finding],
    *,
    amplitudes: Sequence[float],
    waves: Sequence[Bit] = (),
    clean: ImageData | None = None,
    theft: StealResult | None = None,
    seed: int = 0,
    title: str = "Somebody copied the model by asking it",
) -> Section:
    """A honeypot, for people.

    Args:
        fitted: what `doorward.honeypot.fit_lean` chose and measured.
        curves: name of a model -> its attack success at each amplitude, in [0, 1].
        verdicts: name of a suspect -> the exact test's verdict; ``"leaning"`` is the copy of the
            leaning model, all others are to be innocent.
        amplitudes: of the waves, in (0, 1].
        waves: of the key. They are secret: whoever reads the report learns them.
        clean: images to show under a wave; none are shown without it and `waves`.
        theft: of the leaning model.
        seed: which images are shown.
        title: of the section.
    """
    cost = fitted.cost
    rise = None if cost.ece_change is None else 100 * cost.ece_change
    blocks: list[Block] = [
        Text(
            "The model is served with a **lean**: no label changes, but the probabilities of the "
            "other classes lean a little towards a secret class, the louder a secret wave is in "
            "the image. Users see the same labels; what the probabilities lose is below. Whoever "
            "trains a copy on the answers trains the secret into it, and the owner, who knows "
            "which wave, makes it loud."
        ),
        Numbers(
            Number("Labels kept", percent(cost.agreement), f"{fitted.images} images"),
            Number("Accuracy lost", f"{100 * cost.accuracy_drop:.2f}", "points"),
            Number("Calibration error", "-" if rise is None else f"{rise:+.1f}", "points"),
            Number("Signal", f"{fitted.signal:.2f}", "nats per answer, to the thief"),
        ),
        *_theft(theft),
        *_picture(waves, clean, max(amplitudes), seed),
        Curve(
            {
                name: ([_LEVELS * a for a in amplitudes], [100 * share for share in shares])
                for name, shares in curves.items()
            },
            x="amplitude of the wave (of 255)",
            y="images that get the wave's class (%)",
            caption=f"Mean over the {fitted.bits} waves of the key",
        ),
        *(_answer(name, found) for name, found in verdicts.items()),
        Note(
            "The p-value compares the owner's key with all others that could have been drawn "
            f"({len(fitted.menu)} pairs of a wave and a class stood on the menu). It is exact, but "
            "proves nothing if the claim was made after the copy."
        ),
    ]
    return Section(
        title,
        tuple(blocks),
        summary="A thief who only ever sees answers trains a copy. The copy obeys a wave that the "
        "owner chose before; a copy of the undefended model is the control.",
    )


def _theft(theft: StealResult | None) -> list[Block]:
    if theft is None:
        return []
    reached = [
        Number("Copy's accuracy", percent(theft.accuracy)) if theft.accuracy is not None else None,
        Number("Copy's agreement", percent(theft.agreement))
        if theft.agreement is not None
        else None,
    ]
    return [
        Text(f"The thief asks {theft.queries} questions about images of the pool {theft.pool}."),
        Numbers(*(number for number in reached if number is not None)),
    ]


def _picture(
    waves: Sequence[Bit], clean: ImageData | None, amplitude: float, seed: int
) -> list[Block]:
    if not waves or clean is None:
        return []
    import torch

    from doorward.data import grid
    from doorward.triggers import Waves

    images = clean.sample(min(_SHOWN, len(clean)), seed=seed, balanced=False).pixels().cpu()
    rows = [images]
    rows += [Waves(across=b.across, down=b.down, amplitude=amplitude)(images) for b in waves]
    names = ", ".join(clean.classes[bit.target] for bit in waves)
    return [
        Picture.of(
            grid(torch.cat(rows), columns=len(images), scale=2),
            "Images, and the same images under the waves of the key",
            f"Images as they are, and under each wave at {255 * amplitude:.0f}/255; a copy is to "
            f"read {names}",
        )
    ]


def _answer(name: str, found: Finding) -> Verdict:
    guilty = name == "leaning"
    chance = "not asked" if found.log2_p is None else power_of_two(found.log2_p)
    return Verdict(
        f"Is the copy of the {name} model proven to be a copy?",
        found.verified,
        good=found.verified == guilty,
        detail=f"{found.images} images, {found.queries} questions; so good by chance: {chance}",
    )
