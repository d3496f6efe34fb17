"""``doorward data``: which data sets there are, how to get them, what is in them.

::

    doorward data list
    doorward data fetch cifar10
    doorward data show cifar10 --out cifar10.png
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from doorward.cli.common import Json, Root, Seed, answer, table

__all__ = ["group"]

group = typer.Typer(
    no_args_is_help=True,
    help="List, fetch and look at data sets.",
    epilog="Example: doorward data list",
)


@group.command("list", epilog="Example: doorward data list --json")
def list_sets(root: Root = None, as_json: Json = False) -> None:
    """List the data sets that have a name, and whether they are here.

    Every command also takes the path of a folder with your own images: folder/CLASS/IMAGE.png.
    """
    from doorward.data import DATASETS, available, data_root

    sets: list[dict[str, Any]] = []
    for name in DATASETS:
        facts = DATASETS.facts(name)
        sets.append(
            {
                "name": name,
                "available": available(name, root),
                "classes": facts["classes"],
                "image_shape": list(facts["image_shape"]),
                "splits": list(facts["splits"]),
                "summary": DATASETS.summary(name),
                "layout": facts["layout"],
            }
        )
    rows = [
        [
            entry["name"],
            "yes" if entry["available"] else "no",
            str(entry["classes"]),
            "x".join(map(str, entry["image_shape"])),
            entry["summary"],
        ]
        for entry in sets
    ]
    answer(
        {"root": str(data_root(root)), "datasets": sets},
        as_json=as_json,
        lines=[
            table(["name", "here", "classes", "images", "what"], rows),
            "",
            f"Data root: {data_root(root)} (change it with --root or DOORWARD_DATA)",
        ],
    )


@group.command(epilog="Example: doorward data fetch cifar10 --root ~/data")
def fetch(
    name: Annotated[str, typer.Argument(help="A name from: doorward data list.")],
    root: Root = None,
    as_json: Json = False,
) -> None:
    """Download a data set into the data root and check it against its known checksums.

    What is there and intact is not downloaded again.
    """
    from doorward.data import data_root
    from doorward.data import fetch as fetch_set

    with _download_bar() as show:
        files = fetch_set(name, root, progress=show)
    place = str(data_root(root))
    answer(
        {"name": name, "root": place, "downloaded": [str(path) for path in files]},
        as_json=as_json,
        lines=f"{name} is in {place}" + ("" if files else "; nothing had to be downloaded"),
    )


@group.command(epilog="Example: doorward data show digits --out digits.png")
def show(
    name: Annotated[str, typer.Argument(help="A data set's name or folder.")],
    out: Annotated[Path, typer.Option(help="The PNG to write.")] = Path("images.png"),
    split: Annotated[str, typer.Option(help="train or test; some sets have more.")] = "train",
    per_class: Annotated[int, typer.Option(help="Images per class.", min=1, max=50)] = 8,
    size: Annotated[int | None, typer.Option(help="Resize images to this side.", min=1)] = None,
    root: Root = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Draw a grid of images, one row per class, and count what is there."""
    from doorward.data import grid, load
    from doorward.files import atomic_file

    images = load(name, split=split, root=root, size=size)
    counts = images.counts()
    # A row per class would be unreadable beyond some twenty classes.
    shown = min(images.num_classes, 20)
    rows = [images.of_class(k).sample(per_class, seed=seed, balanced=False) for k in range(shown)]
    width = max(len(row) for row in rows)
    pixels = [row.pixels() for row in rows]
    import torch

    blank = torch.ones(1, *images.image_shape)
    padded = torch.cat([torch.cat([p, blank.expand(width - len(p), -1, -1, -1)]) for p in pixels])
    picture = grid(padded, columns=width, scale=max(1, 64 // images.image_shape[1]))
    with atomic_file(out) as temporary:
        picture.save(temporary, format="PNG")
    classes = {images.classes[k]: int(counts[k]) for k in range(images.num_classes)}
    answer(
        {
            "name": images.name,
            "split": split,
            "images": len(images),
            "image_shape": list(images.image_shape),
            "classes": classes,
            "digest": images.digest(),
            "picture": str(out),
        },
        as_json=as_json,
        lines=[
            f"{images.name}, {split}: {len(images)} images "
            f"{'x'.join(map(str, images.image_shape))}, {images.num_classes} classes",
            ", ".join(f"{label}: {count}" for label, count in classes.items()),
            f"Picture: {out}",
        ],
    )


@contextmanager
def _download_bar() -> Iterator[Callable[[str, int, int | None], None]]:
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = ("{task.description}", DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        tasks: dict[str, Any] = {}

        def show(name: str, done: int, total: int | None) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=total)
            bar.update(tasks[name], completed=done, total=total)

        yield show
