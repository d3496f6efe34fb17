"""``doorward remove``: one removal method, as its paper has it, on a model that you received.

::

    doorward remove theirs.model --method ft-sam --data my-photos --out tuned.model
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from doorward.cli.common import Device, Json, Root, Seed, answer
from doorward.cli.options import Channels, Out, Size, TrustFactory
from doorward.cli.suspects import CleanData, Labelled, Limit, Model, Split

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command(
        epilog="Example: doorward remove theirs.model --method ft-sam --data my-photos "
        "--method-option epochs=20 --out tuned.model"
    )(remove)


def _complete_method(incomplete: str) -> list[str]:
    import doorward.hardening  # noqa: F401 - it files methods of its own
    from doorward.removal import REMOVALS

    return [name for name in REMOVALS if name.startswith(incomplete)]


def remove(
    model: Model,
    data: CleanData,
    out: Out,
    method: Annotated[
        str, typer.Option(help="The removal method.", autocompletion=_complete_method)
    ],
    method_option: Annotated[
        list[str] | None,
        typer.Option(help="A parameter of the method, as name=value; may be repeated."),
    ] = None,
    labels: Labelled = "given",
    images: Limit = None,
    validation: Annotated[
        str | None,
        typer.Option(
            help="Measure accuracy before and after on this data set's test images. Default: the "
            "images it works with, which flatters.",
            show_default=False,
        ),
    ] = None,
    split: Split = None,
    size: Size = None,
    channels: Channels = None,
    trust_factory: TrustFactory = False,
    root: Root = None,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Apply one removal method to a model, without scan or budget; `doorward purge` has both.

    Constants are the method's paper's, for thousands of images: with few, a warning tells where
    training was too short or accuracy is gone.
    """
    import doorward.hardening  # noqa: F401 - it files methods of its own
    from doorward.cli.options import parse_options, require_free
    from doorward.cli.suspects import clean_images, open_suspect, save_repaired
    from doorward.removal import removal, side_effects
    from doorward.removal import remove as apply

    require_free(out)
    chosen = removal(method, **parse_options(method_option))
    suspect = open_suspect(model, trust_factory=trust_factory)
    taken: dict[str, Any] = {"root": root, "size": size, "channels": channels, "seed": seed}
    clean = clean_images(suspect, data, split=split, labels=labels, count=images, **taken)
    test = None
    if validation is not None:
        test = clean_images(suspect, validation, split="test", labels="given", count=None, **taken)
    repaired, result = apply(
        suspect.model,
        clean,
        chosen,
        seed=seed,
        device=device,
        labels=labels,  # type: ignore[arg-type]
        progress=True,
    )
    effects = side_effects(
        suspect.model,
        repaired,
        chosen,
        clean,
        labels=labels,  # type: ignore[arg-type]
        test=test,
    )
    what = "Agreement" if labels == "model" and test is None else "Accuracy"
    where = f"{effects.images} test images" if test is not None else "the images it worked with"
    metrics = {} if test is None else {"accuracy": effects.after}
    evidence = {"removal.json": result.to_dict(), "side-effects.json": effects.to_dict()}
    save_repaired(suspect, repaired, clean, out, metrics=metrics, evidence=evidence)
    answer(
        {
            "model": str(out),
            "accuracy_before": effects.before,
            "accuracy_after": effects.after,
            "measured_on": "validation" if test is not None else "clean images",
            "warnings": list(effects.warnings),
            **result.to_dict(),
        },
        as_json=as_json,
        lines=[
            f"{result.method} on {result.images} clean images, {result.seconds:.0f} s",
            f"{what} {effects.before:.2%} -> {effects.after:.2%} on {where}",
            *(f"WARNING: {warning}" for warning in effects.warnings),
            f"Model: {out}",
        ],
    )
