"""``doorward watermark paper keygen|verify``: the scheme of Adi et al. (2018) as it is.

::

    doorward watermark paper keygen mk.key --vk vk.json --identity ada.key --data cifar10
    doorward watermark paper mark mk.key --data cifar10 --arch preact-resnet18 --out mine.model
    doorward watermark paper verify vk.json mine.model --key mk.key --public ada.pub.json

`mark` is in `doorward.cli.watermark.faithful_marking`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from doorward.cli.common import Json, Root, answer, note
from doorward.cli.keys import PassphraseFile, passphrase
from doorward.cli.options import Channels, Size, TrustFactory
from doorward.cli.watermark.group import group

__all__ = ["keygen", "paper", "verify"]

paper = typer.Typer(
    no_args_is_help=True,
    help="The scheme of Adi et al. (2018) as in the paper, with pictures of your own if you like.",
    epilog="Example: doorward watermark paper keygen mk.key --vk vk.json --identity ada.key "
    "--data digits",
)
group.add_typer(paper, name="paper")


@paper.command(
    epilog="Example: doorward watermark paper keygen mk.key --vk vk.json --identity ada.key "
    "--data digits --pictures trigger_set --labels labels.txt"
)
def keygen(
    path: Annotated[Path, typer.Argument(help="The sealed marking key (mk) to write.")],
    vk: Annotated[
        Path, typer.Option(help="The verification key to write: 2n commitments, to be published.")
    ],
    identity: Annotated[Path, typer.Option(help="Your sealed signing identity.")],
    pictures: Annotated[
        Path | None,
        typer.Option(help="A folder of abstract images. Default: they are drawn."),
    ] = None,
    fit: Annotated[
        str,
        typer.Option(help="How pictures become small: crop (the centre, as in the paper), resize."),
    ] = "crop",
    labels: Annotated[
        Path | None,
        typer.Option(help="A file of labels, one a line. Default: drawn at random."),
    ] = None,
    n: Annotated[
        int | None, typer.Option("--n", help="Pictures to draw. Default: 100.", min=1)
    ] = None,
    epsilon: Annotated[
        float,
        typer.Option(help="Share of the pictures that a marked model may miss, below 1/2."),
    ] = 0.1,
    data: Annotated[
        str | None, typer.Option(help="Take classes and image shape from this data set.")
    ] = None,
    classes: Annotated[int | None, typer.Option(help="Number of classes, else.", min=2)] = None,
    size: Size = None,
    channels: Channels = None,
    root: Root = None,
    passphrase_file: PassphraseFile = None,
    identity_passphrase_file: Annotated[
        Path | None,
        typer.Option(help="The identity's passphrase, if it is not the key's.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Choose pictures, draw labels, commit to both, and sign the commitments.

    Publish the verification key with a time stamp before you publish the model.
    """
    from doorward.bundles import Identity
    from doorward.errors import InvalidInput
    from doorward.watermark.adi import PaperKey, publish
    from doorward.watermark.adi.verdict import CONVINCING

    for place in (path, vk):
        if place.exists():
            raise InvalidInput(f"{place} exists already", remedy="choose another name")
    if path.resolve() == vk.resolve():
        raise InvalidInput(
            "both keys would go into one file", remedy="choose another name for one of them"
        )
    if data is not None:
        from doorward.data import load

        source = load(data, root=root, size=size, channels=channels)
        count, shape = source.num_classes, source.image_shape
    elif classes is None or size is None:
        raise InvalidInput(
            "the key's classes and image shape are unknown",
            remedy="give --data, or --classes, --size and --channels",
        )
    else:
        count, shape = classes, (channels or 3, size, size)
    key = PaperKey.new(n, count, shape, pictures=pictures, fit=fit, labels=labels)  # type: ignore[arg-type]
    if key.best_log2_p() > CONVINCING:
        raise InvalidInput(
            "this key could never convince anybody",
            why=f"even all {key.n} matches have a p-value of 2^{key.best_log2_p():.1f}, and a yes "
            f"takes 2^{CONVINCING:g}",
            remedy="take more pictures, or labels that differ more",
        )
    signer = Identity.open(
        identity, passphrase(identity_passphrase_file or passphrase_file, what=str(identity))
    )
    published = publish(key, signer, epsilon=epsilon)
    key.seal(path, passphrase(passphrase_file, what=str(path), repeat=True))
    published.save(vk)
    needed = published.statement.needed()
    answer(
        {
            "key": str(path),
            "vk": str(vk),
            "commitment": key.commitment(),
            "needed": needed,
            "epsilon": epsilon,
            **key.facts.to_dict(),
        },
        as_json=as_json,
        lines=[
            f"{path}  the marking key: {key.n} pictures {'x'.join(map(str, shape))} for {count} "
            "classes, sealed",
            f"{vk}  the verification key, signed by {signer.public.name}: publish it now",
            f"Proof: {needed} of {key.n} pictures answered with the committed label",
        ],
    )


@paper.command(
    epilog="Example: doorward watermark paper verify vk.json suspect.onnx --key mk.key --public "
    "ada.pub.json --judge truth.txt"
)
def verify(
    vk: Annotated[Path, typer.Argument(help="The owner's verification key.")],
    suspect: Annotated[
        str,
        typer.Argument(
            help="A bundle, an .onnx file, an http(s):// endpoint, or package.module:function."
        ),
    ],
    key: Annotated[Path, typer.Option(help="The sealed marking key (mk).")],
    public: Annotated[
        Path, typer.Option(help="The owner's public identity, from a source you trust.")
    ],
    judge: Annotated[
        Path | None,
        typer.Option(
            help="The judge's file: each picture's true class, or the word undefined, one a line."
        ),
    ] = None,
    epsilon: Annotated[
        float | None,
        typer.Option(help="Your own share that may miss; the smaller decides.", show_default=False),
    ] = None,
    old_head: Annotated[
        Path | None,
        typer.Option(
            help="The marked model's bundle: put its output layer back into a suspect that has "
            "another one."
        ),
    ] = None,
    trust_factory: TrustFactory = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Decide by the paper's three steps whether a suspect is marked: yes (0) or no (1).

    The answer is no, too, where the paper's rule is met but chance explains it (p above 2^-20).
    """
    from doorward.bundles import PublicIdentity, open_black_box, open_model
    from doorward.cli.options import import_from_here
    from doorward.errors import IntegrityError
    from doorward.watermark.adi import PaperKey, keep_head, paper_verify, with_head

    import_from_here()
    owner = PublicIdentity.load(public)
    opened = PaperKey.open(key, passphrase(passphrase_file, what=str(key)))
    asked: Any
    if old_head is None:
        asked = open_black_box(suspect, trust_factory=trust_factory)
    else:
        marked = open_model(old_head, trust_factory=trust_factory)
        asked = with_head(open_model(suspect, trust_factory=trust_factory), keep_head(marked))
    try:
        verdict = paper_verify(opened, vk, asked, public=owner, judge=judge, epsilon=epsilon)
    except IntegrityError as error:
        note(f"error: {error}")
        document: dict[str, Any] = {"accepted": False, "convincing": False, "reason": str(error)}
        lines = "REJECTED: the verification key is not to be trusted."
        answer(document, as_json=as_json, lines=lines, yes=False)
        return
    document = {**verdict.to_dict(), "convincing": verdict.convincing}
    answer(document, as_json=as_json, lines=verdict.explain(), yes=verdict.convincing)
