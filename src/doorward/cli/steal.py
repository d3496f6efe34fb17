"""``doorward steal``: copy a model by its answers, to test one's own defences.

::

    doorward steal mine.model --pool procedural --budget 5000 --out copy.model
    doorward steal http://localhost:8000/v2/models/m --pool photos --budget 30000 \
        --answers label --num-classes 10 --checkpoint theft --out copy.model
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer

from doorward.cli.common import Device, Json, Precision, Root, Seed, answer
from doorward.cli.options import (
    Architecture,
    BatchSize,
    Channels,
    Checkpoint,
    Epochs,
    Factory,
    LearningRate,
    Options,
    Out,
    Resume,
    Size,
    TrustFactory,
)

if TYPE_CHECKING:
    from torch import nn

    from doorward.models import BlackBox

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command(
        epilog="Example: doorward steal mine.model --pool procedural --budget 5000 --out copy.model"
    )(steal)


def _complete_method(incomplete: str) -> list[str]:
    from doorward.extraction import EXTRACTIONS

    return [name for name in EXTRACTIONS if name.startswith(incomplete)]


def _complete_defence(incomplete: str) -> list[str]:
    from doorward.honeypot.defences import DEFENCES

    return [name for name in DEFENCES if name.startswith(incomplete)]


def steal(
    victim: Annotated[
        str,
        typer.Argument(
            help="A bundle, an .onnx file, an http(s):// endpoint, or package.module:function."
        ),
    ],
    pool: Annotated[
        str,
        typer.Option(
            help="Images to ask about: procedural, a data set by name, or a folder/class/image.png."
        ),
    ],
    budget: Annotated[int, typer.Option(help="How many images may be sent.", min=1)],
    out: Out,
    method: Annotated[
        str, typer.Option(help="The attack.", autocompletion=_complete_method)
    ] = "knockoff-random",
    answers: Annotated[
        str, typer.Option(help="What is seen of the answers: soft, label, top-5, rounded-2, ...")
    ] = "soft",
    defence: Annotated[
        str | None,
        typer.Option(
            help="Put a defence before the victim: rounding, top-1, reverse-sigmoid, mad, "
            "adaptive-misinformation, dawn, prada.",
            autocompletion=_complete_defence,
            show_default=False,
        ),
    ] = None,
    pool_size: Annotated[
        int | None,
        typer.Option(
            help="Use this many images of the pool. Default: all; of procedural ones as many as "
            "the budget, or four times as many for a method that chooses among them.",
            min=1,
            show_default=False,
        ),
    ] = None,
    num_classes: Annotated[
        int | None,
        typer.Option(
            help="For victims that give labels and do not say how many.", min=2, show_default=False
        ),
    ] = None,
    validation: Annotated[
        str | None,
        typer.Option(
            help="Measure agreement and accuracy on this data set's test images.",
            show_default=False,
        ),
    ] = None,
    arch: Architecture = None,
    model: Factory = None,
    option: Options = None,
    epochs: Epochs = None,
    lr: LearningRate = None,
    batch_size: BatchSize = None,
    size: Size = None,
    channels: Channels = None,
    checkpoint: Checkpoint = None,
    resume: Resume = True,
    trust_factory: TrustFactory = False,
    root: Root = None,
    seed: Seed = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    as_json: Json = False,
) -> None:
    """Train a substitute of a model on its answers, and say how close it comes.

    For models of your own, or that you may test. With --checkpoint every answer is kept: a theft
    that was stopped, or cut off by its victim, goes on when the same command is given again, and
    asks nothing twice. No pool is downloaded.
    """
    from doorward.bundles import open_black_box
    from doorward.cli.options import (
        DEFAULT_ARCHITECTURE,
        import_from_here,
        parse_options,
        require_free,
        store_model,
    )
    from doorward.data import load
    from doorward.extraction import EXTRACTIONS, PROCEDURAL, Answers, default_recipe, open_pool
    from doorward.extraction import steal as steal_model
    from doorward.training.distributed import resolve_device

    require_free(out)
    import_from_here()
    attack, mode = EXTRACTIONS[method](), Answers.of(answers)
    place = resolve_device(device)
    box = open_black_box(victim, trust_factory=trust_factory, device=place)
    box = box if defence is None else _defended(box, defence, seed)
    shape = _shape(box, size, channels)
    count = pool_size
    if pool == PROCEDURAL and count is None:
        facts = EXTRACTIONS.facts(method)
        count = 1 if not facts["pool"] else budget * (4 if facts["chooses"] else 1)
    images = open_pool(pool, shape, count=count, seed=seed, root=root)
    test = None
    if validation is not None:
        test = load(validation, split="test", root=root, size=shape[1], channels=shape[0])
    given = {"epochs": epochs, "lr": lr, "batch_size": batch_size, "precision": precision}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    name = arch or DEFAULT_ARCHITECTURE
    substitute: str | nn.Module = name
    if model is not None:
        substitute, name = _own(box, shape, num_classes, arch, model, option, seed), "custom"
    known = default_recipe(min(budget, len(images)), min(shape[1:]), architecture=name, seed=seed)
    recipe = dataclasses.replace(known, **changes)
    net, result = steal_model(
        box,
        images,
        budget=budget,
        method=attack,
        answers=mode,
        substitute=substitute,
        options=parse_options(option) if model is None else None,
        num_classes=num_classes,
        recipe=recipe,
        seed=seed,
        validation=test,
        checkpoint=checkpoint,
        resume=resume,
        device=place,
        progress=True,
    )
    measured = {"agreement": result.agreement, "accuracy": result.accuracy}
    metrics = {name: value for name, value in measured.items() if value is not None}
    store_model(net, out, recipe=recipe, metrics=metrics)
    lines = [
        f"{result.queries} of {budget} questions asked ({result.answers}), "
        f"{result.transfer_images} images trained on, {result.seconds:.0f} s",
        f"Model: {out}",
    ]
    if result.agreement is not None:
        lines.insert(
            1,
            f"Agreement with the victim {result.agreement:.2%}, accuracy {result.accuracy:.2%} "
            f"(victim {result.victim_accuracy:.2%}) on {result.validation_images} test images",
        )
    answer({"model": str(out), **result.to_dict()}, as_json=as_json, lines=lines)


def _defended(box: BlackBox, name: str, seed: int) -> BlackBox:
    """The victim behind a defence, under a secret of the seed's, so that a theft can be resumed."""
    from doorward.honeypot.defences import DEFENCES, Defended
    from doorward.randomness import Secret, derive_seed

    secret = derive_seed(seed, "steal", "defence").to_bytes(16, "big")
    return Defended(box, DEFENCES[name](), Secret(secret))


def _shape(box: BlackBox, size: int | None, channels: int | None) -> tuple[int, int, int]:
    """What the victim says it takes, or what the options say."""
    from doorward.errors import InvalidInput

    own: tuple[int, int, int] | None = getattr(box, "input_shape", None)
    if own is None:
        if size is None or channels is None:
            raise InvalidInput(
                "the victim does not say which images it takes",
                remedy="give --size and --channels",
            )
        return channels, size, size
    depth, height, width = own
    if (channels or depth, size or height, size or width) != own:
        raise InvalidInput(
            "--size or --channels do not fit",
            why=f"the victim takes images of {depth} channel(s) and {height}x{width} pixels",
            remedy="leave them out",
        )
    return own


def _own(
    box: BlackBox,
    shape: tuple[int, int, int],
    num_classes: int | None,
    arch: str | None,
    factory: str,
    options: list[str] | None,
    seed: int,
) -> nn.Module:
    """A substitute that a foreign factory makes, for the victim's classes."""
    import torch

    from doorward.cli.options import make_model
    from doorward.data import ImageData
    from doorward.errors import InvalidInput

    count = box.num_classes or num_classes
    if count is None:
        raise InvalidInput(
            "how many classes the victim has is not known", remedy="give --num-classes"
        )
    names = getattr(getattr(box, "model", None), "classes", None)
    classes = names if isinstance(names, tuple) else tuple(map(str, range(count)))
    example = ImageData(
        torch.zeros((1, *shape), dtype=torch.uint8), torch.zeros(1, dtype=torch.int64), classes
    )
    return make_model(example, arch=arch, factory=factory, options=options, seed=seed)
