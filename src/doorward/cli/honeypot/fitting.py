"""``doorward honeypot keygen|fit``: draw a key, and let a model's answers lean by it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from doorward.cli.common import Data, Device, Json, Root, Seed, answer
from doorward.cli.honeypot.group import KeyFile, group
from doorward.cli.keys import PassphraseFile, passphrase
from doorward.cli.options import TrustFactory, require_free

__all__ = ["fit", "keygen"]


class Modes(StrEnum):
    """What a lean may change."""

    KEPT = "kept"
    CALIBRATED = "calibrated"
    LABEL = "label"
    PLAIN = "plain"


@group.command(epilog="Example: doorward honeypot keygen lean.key --owner ada.pub.json")
def keygen(
    path: Annotated[Path, typer.Argument(help="The sealed key to write.")],
    bits: Annotated[
        int,
        typer.Option(
            help="Secret waves: more make the proof stronger, each of them fainter.", min=1, max=16
        ),
    ] = 3,
    owner: Annotated[
        Path | None,
        typer.Option(help="Your public identity: only you can then claim with this key."),
    ] = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Draw a key for a lean from the system's random numbers and seal it."""
    from doorward.bundles import PublicIdentity
    from doorward.honeypot import LeanKey

    public = None if owner is None else PublicIdentity.load(owner)
    key = LeanKey.new(bits, public)
    key.seal(path, passphrase(passphrase_file, what=str(path), repeat=True))
    answer(
        {"key": str(path), "commitment": key.commitment(), **key.parameters.to_dict()},
        as_json=as_json,
        lines=[
            f"{path}  {bits} secret waves, sealed",
            f"commitment  {key.commitment()}",
            "Next: doorward honeypot fit, then doorward honeypot claim, then serve.",
        ],
    )


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
    mode: Annotated[
        Modes,
        typer.Option(help="What may change: kept (no label), calibrated (nor confidence), ..."),
    ] = Modes.KEPT,
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
            help="What a thief may ask about: procedural, a data set, a folder. Default: --data.",
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
    """Choose the smallest lean that suffices within your bounds, and write the model with it.

    Nothing is trained, and the bounds hold on the data set's test images. Serve what is written
    in place of your model; it holds your secret, as the key does.
    """
    from doorward.bundles import open_model
    from doorward.cli.options import import_from_here
    from doorward.data import load
    from doorward.extraction import open_pool
    from doorward.files import write_json
    from doorward.honeypot import LeanBudget, LeanKey, fit_lean, save_lean
    from doorward.models import export_onnx
    from doorward.training.distributed import resolve_device

    graph = out.suffix.lower() == ".onnx"
    if not graph:
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
    lean, found = fit_lean(
        net, clean, opened, budget=budget, mode=mode.value, pool=asked, seed=seed
    )
    if graph:
        export_onnx(lean, out)
    else:
        save_lean(lean, out, metrics={"agreement": found.cost.agreement})
    write_json(result, found.to_dict(), private=True)
    cost = found.cost
    rise = "-" if cost.ece_change is None else f"{100 * cost.ece_change:+.2f}"
    lines = [
        f"Strength {found.strength:g}, depth {found.depth}, of {found.bits} waves; "
        f"{len(found.menu)} pairs to draw from",
        f"Labels kept {cost.agreement:.2%}; accuracy {-100 * cost.accuracy_drop:+.2f} points, "
        f"calibration error {rise} points, largest rise of a class "
        f"{100 * cost.target_share:+.2f} points, on {found.images} images",
        f"Signal to a thief {found.signal:.3f}, {found.sufficient:g} is sufficient",
        f"Model: {out}",
    ]
    if not found.reached:
        lines.append("WARNING: no lean within your bounds says as much as is sufficient.")
    answer(
        {"model": str(out), "result": str(result), **found.to_dict()}, as_json=as_json, lines=lines
    )
