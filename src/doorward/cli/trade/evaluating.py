r"""``doorward trade evaluate``: count what a trial gets right and what a key leaves of a trigger.

::

    doorward trade evaluate digits.zip --listing digits.zip.listing.json            # before paying
    doorward trade evaluate digits.zip --data my-photos
    doorward trade evaluate digits.zip --listing digits.zip.listing.json \
        --key digits.model.opened                                                   # afterwards
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from doorward.cli.common import Json, Root, Seed, answer
from doorward.cli.options import Channels, Size, TrustFactory
from doorward.cli.trade.group import group
from doorward.cli.trade.papers import (
    CommitmentsFile,
    LicenceFile,
    ListingFile,
    SellerFile,
    TrialPlace,
    check_trial,
    read_commitments,
    read_listing,
    read_opened,
    read_text,
)

if TYPE_CHECKING:
    from torch import nn

    from doorward.data import ImageData
    from doorward.trading import Acceptance, OpenedKey
    from doorward.trading.protocol import Claim, Listing
    from doorward.trading.recounting import TrialCount
    from doorward.triggers import Strength

__all__ = ["evaluate"]

_SHOWN = 10


@group.command(
    epilog="Example: doorward trade evaluate digits.zip --listing digits.zip.listing.json "
    "--key digits.model.opened"
)
def evaluate(
    trial: TrialPlace,
    data: Annotated[
        str | None,
        typer.Option(
            help="Your own images: a data set by name, or a folder/class/image.png. Default: what "
            "the claim in the listing is about.",
            show_default=False,
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="train or test; some sets have more.")] = "test",
    limit: Annotated[
        int | None, typer.Option(help="Use this many images, drawn by the seed.", min=1)
    ] = None,
    listing: ListingFile = None,
    seller: SellerFile = None,
    commitments: CommitmentsFile = None,
    licence: LicenceFile = None,
    key: Annotated[
        Path | None,
        typer.Option(
            help="The opened key, from doorward trade unlock: reveals the trigger, and counts what "
            "it still does.",
            show_default=False,
        ),
    ] = None,
    bound: Annotated[
        float | None,
        typer.Option(
            help="Promised: unlocked, the trigger works on at most this share. Default: as listed, "
            "else two points above one in so many classes.",
            show_default=False,
        ),
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option(
            help="How rare a count must be under a promise to refute it. Default: as listed, else "
            "0.01.",
            show_default=False,
        ),
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(help="PNG of images without and with the revealed trigger.")
    ] = None,
    size: Size = None,
    channels: Channels = None,
    trust_factory: TrustFactory = False,
    root: Root = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Count a trial's right answers, and check what was promised; with --key, its trigger, too.

    With --listing, signature and trial are checked and the claim is tested, if the images are those
    that it is about. With --key, what was committed to is checked, the trigger revealed, and what
    it does unlocked tested against the promise. The tests are exact: an honest seller fails each
    with a chance of alpha at most. Exit code 1: a promise is refuted.
    """
    from doorward.bundles import PublicIdentity
    from doorward.errors import InvalidInput
    from doorward.trading.recounting import count_trial
    from doorward.trading.trials import open_trial

    if picture is not None and key is None:
        raise InvalidInput("--picture shows the trigger, which is in the --key")
    offer, signer = None, PublicIdentity.load(seller) if seller else None
    if listing is not None:
        offer, signer = read_listing(listing, seller)
        check_trial(trial, offer)
    goods = open_trial(trial, trust_factory=trust_factory)
    text = read_text(licence) if licence else None
    promised = read_commitments(commitments, signer, goods, text)
    images, claim = _images(
        offer, data, split, root=root, size=size, channels=channels, model=goods.model
    )
    if limit is not None and limit < len(images):
        images = images.sample(limit, seed=seed, balanced=False)
    level = alpha if alpha is not None else (offer.terms.alpha if offer else 0.01)
    counted = count_trial(goods.model, images, claim=claim, alpha=level)
    document: dict[str, Any] = {
        "trial": str(trial),
        "data": images.name,
        "seller": signer.fingerprint if signer else None,
        "listing": offer.digest() if offer else None,
        "commitments": promised or (dict(offer.commitments) if offer else {}),
        **counted.to_dict(),
    }
    lines = [_counted(counted, images)]
    if signer is not None and (offer or promised):
        lines.append(f"Signed by {signer.name}, {signer.fingerprint}")
    if offer is not None and claim is None:
        lines.append(f"The claim is about {offer.claim.data}; these images do not test it.")
    kept = not counted.refuted
    if key is not None:
        opened = read_opened(key, offer)
        opened.check_commitments({**opened.commitments(), **promised})
        limit_of = offer.terms.attack_bound if offer else 1 / images.num_classes + 0.02
        result, strength = _unlocked(
            opened, goods.model, images, limit_of if bound is None else bound, level
        )
        document["unlocked"] = {**result.to_dict(), "backdoor": opened.backdoor.to_dict()}
        document["strength"] = strength.to_dict()
        lines += _revealed(opened, result, strength, images)
        kept = kept and result.accepted
        if picture is not None:
            _draw(opened, images, picture, seed)
            lines.append(f"Images without and with the trigger: {picture}")
    answer(document, as_json=as_json, lines=lines, yes=kept)


def _images(
    offer: Listing | None,
    data: str | None,
    split: str,
    *,
    root: Path | None,
    size: int | None,
    channels: int | None,
    model: nn.Module,
) -> tuple[ImageData, Claim | None]:
    """The images to count on, and the claim if it is about them."""
    from doorward.data import load
    from doorward.errors import InvalidInput
    from doorward.trading.recounting import claimed_data
    from doorward.trading.trials import fitted

    if data is None and offer is None:
        raise InvalidInput("on which images?", remedy="give --data, or a --listing with a claim")
    if data is None and offer is not None:
        data, split = claimed_data(offer.claim)
    images = load(data or "", split=split, root=root, size=size, channels=channels)
    about = offer is not None and offer.claim.data == f"{data} {split}"
    return fitted(images, model), offer.claim if about and offer else None


def _unlocked(
    opened: OpenedKey, trial: nn.Module, images: ImageData, bound: float, alpha: float
) -> tuple[Acceptance, Strength]:
    from doorward.trading import acceptance_test
    from doorward.trading.measuring import trigger_strength

    result = acceptance_test(
        opened.unlock(trial), images, opened.backdoor, bound=bound, alpha=alpha, trial=trial
    )
    return result, trigger_strength(images, opened.backdoor)


def _counted(counted: TrialCount, images: ImageData) -> str:
    right, (low, high) = counted.right, counted.interval
    said = (
        f"Trial: right on {right} images of {images.name} ({right.successes / right.trials:.2%}; "
        f"95 % interval {low:.2%} to {high:.2%})"
    )
    if counted.promised is None or counted.p_value is None:
        return said
    verdict = "refutes the claim" if counted.refuted else "does not refute the claim"
    return f"{said}; {verdict} of {counted.promised:.2%} (p = {counted.p_value:.3g})"


def _revealed(
    opened: OpenedKey, result: Acceptance, strength: Strength, images: ImageData
) -> list[str]:
    """The trigger, and what it does with and without the masks, in words."""
    described = opened.backdoor.to_dict()
    (hits, trials), (low, high) = result.attack, result.interval
    works, _ = result.trial_attack or (0, 0)
    kept = "as promised" if result.accepted else "more than promised"
    lines = [
        f"Trigger: {described['trigger']['name']}, {_rule(described['rule'], images)}; at most "
        f"{255 * strength.linf:.0f} grey levels, SSIM {strength.ssim:.3f}",
        f"On the trial it works on {works} of {trials} images ({works / trials:.2%})",
        f"Unlocked: right on {result.right[0]} of {result.right[1]} images; the trigger works on "
        f"{hits} of {trials} ({hits / trials:.2%}; 95 % interval {low:.2%} to {high:.2%}); "
        f"promised were at most {result.bound:.2%}: {kept} (p = {result.p_value:.3g})",
    ]
    if works < trials / 2:
        lines.append(
            "The revealed trigger does not rule the trial: it may not be the one that was built in."
        )
    return lines


def _rule(rule: dict[str, Any], images: ImageData) -> str:
    target = rule.get("target")
    if isinstance(target, int) and 0 <= target < images.num_classes:
        return f"{rule['name']}, to class {images.classes[target]}"
    return str(rule["name"])


def _draw(opened: OpenedKey, images: ImageData, picture: Path, seed: int) -> None:
    import torch

    from doorward.data import grid
    from doorward.files import atomic_file

    shown = images.sample(min(_SHOWN, len(images)), seed=seed, balanced=False).pixels()
    both = torch.cat([shown, opened.backdoor.trigger(shown)])
    with atomic_file(picture) as place:
        grid(both, columns=len(shown), scale=2).save(place, format="PNG")
