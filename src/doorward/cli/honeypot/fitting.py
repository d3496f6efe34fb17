"""``doorward honeypot fit``: give a model answers that a copy learns a secret from."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from doorward.cli.common import Data, Device, Json, Root, Seed, answer
from doorward.cli.honeypot.group import KeyFile, group
from doorward.cli.keys import PassphraseFile, passphrase
from doorward.cli.options import Options, TrustFactory, parse_options, require_free
from doorward.files import write_json

if TYPE_CHECKING:
    from torch import nn

    from doorward.data import ImageData
    from doorward.honeypot import LeanBudget, LeanKey
    from doorward.honeypot.lean import Cost

__all__ = ["fit"]


class Modes(StrEnum):
    """What a lean may change."""

    KEPT = "kept"
    CALIBRATED = "calibrated"
    LABEL = "label"
    PLAIN = "plain"


class Methods(StrEnum):
    """Ways to a honeypot."""

    LEAN = "lean"
    LOOK_AHEAD = "look-ahead"
    FAITHFUL = "faithful"


@group.command(
    epilog="Example: doorward honeypot fit lean.key mine.model --data cifar10 --out leaning.onnx "
    "--result lean.json"
)
def fit(
    key: KeyFile,
    model: Annotated[
        str, typer.Argument(help="Your model: a bundle, or package.module:function[=weights].")
    ],
    data: Data,
    out: Annotated[
        Path, typer.Option(help="The leaning model: an .onnx file, or a bundle (a folder).")
    ],
    result: Annotated[
        Path, typer.Option(help="What was chosen and measured, for the claim. Keep it to yourself.")
    ],
    method: Annotated[
        Methods,
        typer.Option(
            help="lean (the default: nothing is trained, and the strongest we measured), or a "
            "honeypot head with a patch: look-ahead (ours), faithful (the paper's loop)."
        ),
    ] = Methods.LEAN,
    mode: Annotated[
        Modes,
        typer.Option(
            help="What a lean may change: kept (no label), calibrated (nor confidence), ..."
        ),
    ] = Modes.KEPT,
    target: Annotated[
        int | None,
        typer.Option(
            help="Of a head: the class of its patch. Default: drawn by the key.",
            min=0,
            show_default=False,
        ),
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(
            help="Name of the model's last linear layer, which a head takes the place of. "
            "Default: found.",
            show_default=False,
        ),
    ] = None,
    option: Options = None,
    agreement: Annotated[
        float, typer.Option(help="Least share of labels that stay.", min=0, max=1)
    ] = 0.995,
    accuracy_drop: Annotated[
        float, typer.Option(help="Most points of accuracy to lose.", min=0, max=100)
    ] = 0.2,
    ece_change: Annotated[
        float, typer.Option(help="Most points that the calibration error may rise.", min=0, max=100)
    ] = 0.5,
    target_share: Annotated[
        float, typer.Option(help="Most points that a class's mean probability may rise.", min=0)
    ] = 6.0,
    pool: Annotated[
        str | None,
        typer.Option(
            help="What a thief may ask about: procedural, a data set, a folder. Default: --data, "
            "its test images for a lean, its training images for a head.",
            show_default=False,
        ),
    ] = None,
    trust_factory: TrustFactory = False,
    root: Root = None,
    seed: Seed = 0,
    device: Device = "auto",
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Give a model answers that a thief's copy learns a secret from, within your bounds.

    A lean trains nothing: the smallest that suffices is chosen. A head is trained against simulated
    thieves. The bounds hold on the data set's test images, but for --method faithful, which heeds
    none. Serve what is written in place of your model; it and --result hold your secret, as the
    key does.
    """
    from doorward.bundles import open_model
    from doorward.cli.options import import_from_here
    from doorward.data import load
    from doorward.errors import InvalidInput
    from doorward.extraction import open_pool
    from doorward.honeypot import LeanBudget, LeanKey
    from doorward.training.distributed import resolve_device

    if method is Methods.LEAN and (target is not None or head is not None or option):
        raise InvalidInput(
            "--target, --head and --option are of a honeypot head",
            why="a lean draws its classes from the key and needs no layer",
            remedy="leave them out, or choose --method look-ahead",
        )
    if out.suffix.lower() != ".onnx":
        require_free(out)
    import_from_here()
    opened = LeanKey.open(key, passphrase(passphrase_file, what=str(key)))
    net = open_model(model, trust_factory=trust_factory, device=resolve_device(device))
    shape = getattr(net, "input_shape", None)
    size, channels = (shape[1], shape[0]) if shape else (None, None)
    clean = load(data, split="test", root=root, size=size, channels=channels)
    asked = None if pool is None else open_pool(pool, clean.image_shape, root=root, seed=seed)
    budget = LeanBudget(
        agreement=agreement,
        accuracy_drop=accuracy_drop / 100,
        ece_change=ece_change / 100,
        target_share=min(target_share / 100, 1.0),
    )
    if method is Methods.LEAN:
        found, lines = _lean(net, clean, opened, asked, budget, mode, seed, out)
    else:
        if asked is None:
            asked = load(data, root=root, size=size, channels=channels)
        drawn = opened.number("head target", clean.num_classes)
        found, lines = _head(
            net,
            clean,
            asked,
            out,
            method=method.value,
            budget=budget,
            target=drawn if target is None else target,
            head=head,
            device=device,
            seed=seed,
            **parse_options(option),
        )
    write_json(result, found, private=True)
    answer({"model": str(out), "result": str(result), **found}, as_json=as_json, lines=lines)


def _lean(
    net: nn.Module,
    clean: ImageData,
    key: LeanKey,
    pool: ImageData | None,
    budget: LeanBudget,
    mode: Modes,
    seed: int,
    out: Path,
) -> tuple[dict[str, Any], list[str]]:
    """Fit a lean, write the model, and say what it costs."""
    from doorward.honeypot import fit_lean, save_lean
    from doorward.models import export_onnx

    lean, found = fit_lean(net, clean, key, budget=budget, mode=mode.value, pool=pool, seed=seed)
    if out.suffix.lower() == ".onnx":
        export_onnx(lean, out)
    else:
        save_lean(lean, out, metrics={"agreement": found.cost.agreement})
    lines = [
        f"Strength {found.strength:g}, depth {found.depth}, of {found.bits} waves; "
        f"{len(found.menu)} pairs to draw from",
        _told(found.cost, found.images),
        f"Signal to a thief {found.signal:.3f}, {found.sufficient:g} is sufficient",
        f"Model: {out}",
    ]
    if not found.reached:
        lines.append("WARNING: no lean within your bounds says as much as is sufficient.")
    return found.to_dict(), lines


def _head(
    net: nn.Module, clean: ImageData, pool: ImageData, out: Path, **options: Any
) -> tuple[dict[str, Any], list[str]]:
    """Fit a head, write the model, and say what it costs."""
    from doorward.bundles import save_model
    from doorward.honeypot import fit_head
    from doorward.models import export_onnx

    served, found = fit_head(net, clean, pool, **options)
    if out.suffix.lower() == ".onnx":
        export_onnx(served, out, clean.image_shape)
    else:
        save_model(served, out, metrics={"agreement": found.cost.agreement})
    learners, plain = (
        "-" if share is None else f"{share:.1%}"
        for share in (found.learner_success, found.plain_success)
    )
    lines = [
        _told(found.cost, found.images),
        f"The patch leads {learners} of the images to class {found.target} on simulated thieves, "
        f"{plain} on those of the undefended model ({found.seconds:.0f} s)",
        f"Model: {out}",
        *(f"WARNING: {excess}" for excess in found.excess),
    ]
    return found.to_dict(), lines


def _told(cost: Cost, images: int) -> str:
    rise = "-" if cost.ece_change is None else f"{100 * cost.ece_change:+.2f}"
    return (
        f"Labels kept {cost.agreement:.2%}; accuracy {-100 * cost.accuracy_drop:+.2f} points, "
        f"calibration error {rise} points, largest rise of a class "
        f"{100 * cost.target_share:+.2f} points, on {images} images"
    )
