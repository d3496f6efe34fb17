"""``doorward watermark copy|trace``: a mark for every buyer, and whose copy leaked.

::

    doorward watermark keygen t.key --data cifar10 --owner ada.pub.json
    doorward watermark copy my.model --key t.key --register b.json --buyer Acme --data cifar10 ...
    doorward watermark trace suspect.onnx --key t.key --register b.json

The tracing key is a watermark key of its own, not the one that claims ownership. What becomes of
the register is in `doorward.cli.watermark.buyers`.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

from doorward.cli.common import Data, Device, Json, Precision, Root, Seed, answer, note
from doorward.cli.keys import PassphraseFile, passphrase
from doorward.cli.options import BatchSize, LearningRate, Out, TrustFactory
from doorward.cli.watermark.group import group
from doorward.cli.watermark.verifying import load_covers
from doorward.errors import IntegrityError, InvalidInput

__all__ = ["Payload", "RegisterFile", "copy", "parse_payload", "trace"]

WEAKEST = -20.0
"""log2 of the p-value below which a trace with default settings would name the buyer."""

Key = Annotated[Path, typer.Option(help="The sealed tracing key.")]
RegisterFile = Annotated[Path, typer.Option(help="Your register of buyers; made if need be.")]
Payload = Annotated[
    str | None, typer.Option(help="Payload of the copy, in hex.", show_default=False)
]


@group.command(
    epilog="Example: doorward watermark copy base.model --key trace.key --register buyers.json "
    "--buyer Acme --data digits --out acme.model"
)
def copy(
    base: Annotated[Path, typer.Argument(help="The trained bundle to sell a copy of.")],
    key: Key,
    register: RegisterFile,
    buyer: Annotated[str, typer.Option(help="Who buys the copy.")],
    data: Data,
    out: Out,
    payload: Payload = None,
    bits: Annotated[
        int | None,
        typer.Option(help="Length of payloads in a new register. Default: 16.", min=1, max=256),
    ] = None,
    keep: Annotated[
        list[Path] | None,
        typer.Option(
            help="A sealed key whose mark the copy keeps, say the owner's; may be repeated.",
            show_default=False,
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Steps of training. Default: 100.", min=1)
    ] = None,
    lr: LearningRate = None,
    batch_size: BatchSize = None,
    per_batch: Annotated[
        int | None,
        typer.Option(help="Triggers per step. Default: a third.", min=1, show_default=False),
    ] = None,
    root: Root = None,
    passphrase_file: PassphraseFile = None,
    seed: Seed = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    as_json: Json = False,
) -> None:
    """Make a copy of a model for one buyer, with a mark that no other copy has.

    A free payload is drawn and entered in the register before the work starts. If it is stopped,
    the same call with --payload makes the copy of that entry. Exit code 1: the copy was made, but
    its mark is too weak to be traced.
    """
    from doorward.bundles import digest, open_model
    from doorward.cli.options import load_pair, make_recipe, require_free, store_model
    from doorward.watermark import WatermarkKey
    from doorward.watermark.tracing import copy_recipe, mark_copies

    require_free(out)
    opened = WatermarkKey.open(key, passphrase(passphrase_file, what=str(key)))
    kept = [WatermarkKey.open(k, passphrase(passphrase_file, what=str(k))) for k in keep or []]
    book, number = _enter(register, opened, bits, buyer, parse_payload(payload))
    net = open_model(str(base))
    _, height, width = opened.image_shape
    size = height if height == width else None
    train_set, test_set = load_pair(data, root=root, size=size, channels=opened.image_shape[0])
    changes: dict[str, Any] = {"max_steps": steps, "lr": lr, "batch_size": batch_size}
    recipe = dataclasses.replace(
        copy_recipe(make_recipe(data, net, seed=seed, precision=precision)),
        **{name: value for name, value in changes.items() if value is not None},
    )
    ready = mark_copies(
        net, train_set, book.code(opened), [number], recipe, per_batch=per_batch, keep=kept,
        validation=test_set, device=device, progress=True,
    )  # fmt: skip
    book.save(register)  # before the work: the payload must never be given to somebody else
    note(f"payload {number:x} of {buyer} is entered in {register}")
    (made,) = ready
    result, embedding = made.result, made.result.embedding
    store_model(made.model, out, recipe=embedding.recipe, metrics={"accuracy": embedding.accuracy})
    type(book).load(register).delivered(number, digest(out)).save(register)
    document = {"model": str(out), "register": str(register), "buyer": buyer, **result.to_dict()}
    lines = [
        f"{out}  copy of {base} for {buyer}, payload {number:x}",
        f"Triggers answered with the buyer's labels: {result.matches} of {opened.n} "
        f"(p = 2^{result.log2_p:.1f}, all payloads considered); a trace needs "
        f"{book.code(opened).needed()}",
        f"Test accuracy {embedding.accuracy:.2%} (before: {embedding.accuracy_before:.2%})",
        *(f"{path}: {hits} of {k.n} triggers kept"
          for path, k, hits in zip(keep or [], kept, result.kept, strict=True)),
    ]  # fmt: skip
    if result.log2_p > WEAKEST:
        lines.append(
            "TOO WEAK to be traced: do not hand it out. More --steps or a larger --lr may help."
        )
    answer(document, as_json=as_json, lines=lines, yes=result.log2_p <= WEAKEST)


@group.command(
    epilog="Example: doorward watermark trace suspect.onnx --key trace.key --register buyers.json"
)
def trace(
    suspect: Annotated[
        str,
        typer.Argument(
            help="A bundle, an .onnx file, an http(s):// endpoint, or package.module:function."
        ),
    ],
    key: Key,
    register: Annotated[
        Path | None,
        typer.Option(help="Your register; without it, payloads have no names.", show_default=False),
    ] = None,
    bits: Annotated[
        int, typer.Option(help="Length of payloads, where no register says it.", min=1, max=256)
    ] = 16,
    commitment: Annotated[
        Path | None,
        typer.Option(
            help="Check first that this is the register committed to.", show_default=False
        ),
    ] = None,
    public: Annotated[
        Path | None,
        typer.Option(help="Whose commitment it must be: a public identity.", show_default=False),
    ] = None,
    alpha_bits: Annotated[
        float,
        typer.Option(help="Accuse at a p-value of 2^-BITS or less.", min=1, max=1000),
    ] = 20,
    covers: Annotated[
        str | None,
        typer.Option(
            help="Hide the triggers among other questions: images of the suspect's task (a data "
            "set or folder), or look-alikes.",
            show_default=False,
        ),
    ] = None,
    trust_factory: TrustFactory = False,
    root: Root = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Find whose copy a suspect model is (0), or that it is nobody's (1), from its labels alone.

    With --commitment and --public, a register that was changed since accuses nobody.
    """
    from doorward.bundles import PublicIdentity, open_black_box
    from doorward.cli.options import import_from_here
    from doorward.watermark import WatermarkKey
    from doorward.watermark.tracing import Register, RegisterCommitment
    from doorward.watermark.tracing import trace as trace_copy
    from doorward.watermark.verifying import GUARDED

    import_from_here()
    if (commitment is None) != (public is None) or (commitment is not None and register is None):
        raise InvalidInput(
            "--register, --commitment and --public belong together",
            why="a register is compared with a commitment, whose signature must be somebody's",
            remedy="give all three",
        )
    book = None if register is None else Register.load(register)
    if book is not None and commitment is not None and public is not None:
        try:
            RegisterCommitment.load(commitment, PublicIdentity.load(public)).require(book)
        except IntegrityError as error:
            note(f"error: {error}")
            refused: dict[str, Any] = {"traced": False, "reason": str(error)}
            lines = "NOT TRACED: the register is rejected. Nobody is accused."
            answer(refused, as_json=as_json, lines=lines, yes=False)
            return
    opened = WatermarkKey.open(key, passphrase(passphrase_file, what=str(key)))
    found = trace_copy(
        open_black_box(suspect, trust_factory=trust_factory),
        opened,
        book,
        bits=bits,
        alpha=2.0**-alpha_bits,
        plan=None if covers is None else GUARDED,
        covers=load_covers(covers, opened, root),
    )
    named = found.traced if book is None else bool(found.buyers)
    document = {"traced": named, "buyers": list(found.buyers), **found.to_dict()}
    answer(document, as_json=as_json, lines=found.explain(), yes=named)


def parse_payload(text: str | None) -> int | None:
    """A payload in hex, with or without ``0x``.

    Raises:
        InvalidInput: it is none.

    >>> parse_payload("0xBEEF") == parse_payload("beef") == 0xBEEF
    True
    """
    if text is None:
        return None
    digits = text.lower().removeprefix("0x")
    if not digits or set(digits) - set("0123456789abcdef") or len(digits) > 64:
        raise InvalidInput(f"{text!r:.80} is no payload", why="it is a number in hex, say beef")
    return int(digits, 16)


def _enter(
    path: Path, key: Any, bits: int | None, buyer: str, payload: int | None
) -> tuple[Any, int]:
    """The register with an entry for this copy, and the entry's payload; nothing is written yet."""
    from doorward.watermark.tracing import Register

    book = Register.load(path) if path.exists() else Register.of(key, bits or 16)
    book.code(key)
    if bits not in (None, book.bits):
        raise InvalidInput(
            f"--bits {bits} was given", why=f"{path} has payloads of {book.bits} bits"
        )
    for sale in book.sales:
        if (sale.payload, sale.buyer, sale.copy) == (payload, buyer, None):
            return book, sale.payload
    book = book.sell(buyer, payload=payload)
    return book, book.sales[-1].payload
