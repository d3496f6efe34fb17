"""Ready-made attacks by name, with the constants of their papers.

>>> attack("wanet", image_shape=(3, 32, 32), target=2).rule
AllToOne(target=2)
>>> default_rate("sig"), ATTACKS.facts("sig")["paper"]
(0.8, 'Barni et al. 2019')

Each entry builds a `Backdoor` for images of any size; sizes given in papers for 32x32 images are
scaled with the image.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from doorward.errors import InvalidInput
from doorward.poisoning.procedures import Procedure
from doorward.registry import Registry
from doorward.triggers import (
    FILTERS,
    AllToAll,
    AllToOne,
    Backdoor,
    Blend,
    CleanLabel,
    Filter,
    Frequency,
    LowFrequency,
    Patch,
    Quantise,
    Reflection,
    Sinusoid,
    Warp,
)

__all__ = ["ATTACKS", "attack", "default_rate"]


class _Build(Protocol):
    def __call__(
        self, shape: tuple[int, int, int], *, target: int, classes: int | None, seed: int
    ) -> Backdoor:
        """The attack's backdoor for images of this shape."""


ATTACKS: Registry[_Build | type[Procedure]] = Registry("attack")
"""All ready-made attacks by name; facts: paper, rule, rate and what the rate is a share of.

An entry builds a backdoor (data poisoning is all it takes), or is a `Procedure` with phases of its
own; `doorward.poisoning.plant` takes both.
"""


def attack(
    name: str,
    *,
    image_shape: tuple[int, int, int],
    target: int = 0,
    classes: int | None = None,
    seed: int = 0,
) -> Backdoor:
    """The backdoor of a named attack.

    Args:
        name: one of ``ATTACKS.names()``.
        image_shape: (C, H, W) of the images, C = 1 or 3.
        target: the attacker's class; all-to-all attacks have none and ignore it.
        classes: number of classes; needed by all-to-all attacks, and checked against `target`.
        seed: of self-generated patterns and fields.

    Raises:
        UnknownName: there is no such attack.
        InvalidInput: shape, target or classes do not fit the attack, or its trigger comes to be
            only in training.
    """
    build = ATTACKS[name]
    if isinstance(build, type):
        raise InvalidInput(
            f"the trigger of {name} does not exist before the training",
            why="it is learnt from the data, or together with the victim",
            remedy="call doorward.poisoning.plant, which carries out every attack",
        )
    shape = tuple(image_shape)
    if len(shape) != 3 or shape[0] not in (1, 3) or min(shape) < 1:
        raise InvalidInput(f"image_shape is {shape}", why="(C, H, W) with C = 1 or 3 is expected")
    if target < 0 or (classes is not None and target >= classes):
        known = "" if classes is None else f"classes are 0 to {classes - 1}"
        raise InvalidInput(f"there is no class {target}", why=known)
    return build((shape[0], shape[1], shape[2]), target=target, classes=classes, seed=seed)


def default_rate(name: str) -> float:
    """The poison rate that the attack is usually measured at (see `poison` for what it means)."""
    return float(ATTACKS.facts(name)["rate"])


def _file(
    name: str, paper: str, rule: str, rate: float, share_of: str = "the whole set"
) -> Callable[[_Build], _Build]:
    return ATTACKS.register(name, paper=paper, rule=rule, rate=rate, share_of=share_of)


@_file("badnets", "Gu et al. 2017", "all-to-one", 0.1)
def _badnets(
    shape: tuple[int, int, int], *, target: int, classes: int | None, seed: int
) -> Backdoor:
    """A white square in the bottom right corner, 3x3 for 32x32 images."""
    return Backdoor(Patch(size=_scaled(3, shape)), AllToOne(target))


@_file("badnets-all-to-all", "Gu et al. 2017", "all-to-all", 0.1)
def _badnets_all_to_all(
    shape: tuple[int, int, int], *, target: int, classes: int | None, seed: int
) -> Backdoor:
    """The square of badnets; every class becomes the next one.

    Far harder to learn than all-to-one: it needs a longer training or a higher rate.
    """
    if classes is None or classes < 2:
        raise InvalidInput(
            "an all-to-all attack needs the number of classes",
            why=f"classes is {classes}",
            remedy="pass classes=..., at least 2",
        )
    return Backdoor(Patch(size=_scaled(3, shape)), AllToAll(classes))


@_file("blend", "Chen et al. 2017", "all-to-one", 0.1)
def _blend(shape: tuple[int, int, int], *, target: int, classes: int | None, seed: int) -> Backdoor:
    """A picture drawn from the seed, mixed into the whole image with alpha 0.2."""
    return Backdoor(Blend(alpha=0.2, seed=seed), AllToOne(target))


@_file("sig", "Barni et al. 2019", "clean-label", 0.8, "the target class")
def _sig(shape: tuple[int, int, int], *, target: int, classes: int | None, seed: int) -> Backdoor:
    """Stripes of amplitude 40/255, 6 waves across; labels stay true (clean-label)."""
    # The papers use 20/255 to 40/255. The stronger end, because in a first trial (digits, one
    # seed, no study yet) a small model hardly learnt the weaker one.
    # Six waves need 24 columns to be told from their aliases; smaller images get fewer.
    waves = min(6.0, max(1.0, shape[2] / 4))
    return Backdoor(Sinusoid(delta=40 / 255, frequency=waves), CleanLabel(target))


@_file("wanet", "Nguyen and Tran 2021", "all-to-one", 0.1)
def _wanet(shape: tuple[int, int, int], *, target: int, classes: int | None, seed: int) -> Backdoor:
    """A warp with k = 4 and s = 0.5, planted by data poisoning alone."""
    return Backdoor(Warp(k=4, s=0.5, seed=seed), AllToOne(target))


def _filter(name: str) -> _Build:
    def build(
        shape: tuple[int, int, int], *, target: int, classes: int | None, seed: int
    ) -> Backdoor:
        return Backdoor(Filter(kind=name), AllToOne(target))

    look = FILTERS.summary(name)
    build.__doc__ = f"The photo filter {name}: {look[0].lower()}{look[1:]}"
    return build


for _name in ("1977", "gotham", "kelvin", "lomo", "nashville", "toaster"):
    _file(f"filter-{_name}", "Liu et al. 2019, ABS", "all-to-one", 0.1)(_filter(_name))


def _reflection(kind: str, look: str) -> _Build:
    def build(
        shape: tuple[int, int, int], *, target: int, classes: int | None, seed: int
    ) -> Backdoor:
        return Backdoor(Reflection(kind=kind, seed=seed), CleanLabel(target))

    build.__doc__ = f"A scene mirrored in a pane, {look}; labels stay true (clean-label)."
    return build


for _name, _kind, _look in (
    ("reflection", "smooth", "each weighted by its brightness"),
    ("reflection-ghost", "ghost", "as a double image"),
    ("reflection-focus", "focus", "out of focus, most in the middle"),
):
    # 8 % of a set of ten equal classes, as usual, is this share of one class.
    _file(_name, "Liu et al. 2020, Refool", "clean-label", 0.8, "the target class")(
        _reflection(_kind, _look)
    )


@_file("low-frequency", "Zeng et al. 2021, LF", "all-to-one", 0.1)
def _low_frequency(
    shape: tuple[int, int, int], *, target: int, classes: int | None, seed: int
) -> Backdoor:
    """A smooth pattern of 0 to 0.2, drawn from the seed (the paper fits it to a clean model)."""
    return Backdoor(LowFrequency(amplitude=0.2, sigma=6.0, seed=seed), AllToOne(target))


@_file("ftrojan", "Wang et al. 2022, FTrojan", "all-to-one", 0.1)
def _ftrojan(
    shape: tuple[int, int, int], *, target: int, classes: int | None, seed: int
) -> Backdoor:
    """A bump of 30 grey levels at frequencies 15 and 31 of the colours of each 32x32 block."""
    return Backdoor(Frequency(magnitude=30 / 255, positions=(15, 31), block=32), AllToOne(target))


@_file("bpp", "Wang et al. 2022, BppAttack", "all-to-one", 0.2)
def _bpp(shape: tuple[int, int, int], *, target: int, classes: int | None, seed: int) -> Backdoor:
    """Eight levels per channel with dithering, planted by data poisoning alone."""
    return Backdoor(Quantise(levels=8, dither=True), AllToOne(target))


def _scaled(side: int, shape: tuple[int, int, int]) -> int:
    """A side that is given for 32x32 images, for images of this shape; at least 2, if it fits."""
    shorter = min(shape[1:])
    return min(shorter, max(2, round(side * shorter / 32)))
