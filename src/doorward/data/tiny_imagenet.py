"""Tiny ImageNet: 200 classes at 64x64, from the official folders.

>>> from doorward.data import DATASETS
>>> DATASETS.facts("tiny-imagenet")["image_shape"]
(3, 64, 64)
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from doorward.data.registry import Download, Listing, broken, dataset, locate

__all__ = ["tiny_imagenet"]

_FOLDER = "tiny-imagenet-200"


@dataset(
    "tiny-imagenet",
    classes=200,
    image_shape=(3, 64, 64),
    homepage="http://cs231n.stanford.edu/",
    files={
        "train": ((f"{_FOLDER}/wnids.txt",), (f"{_FOLDER}/train",)),
        "test": (
            (f"{_FOLDER}/wnids.txt",),
            (f"{_FOLDER}/val/images",),
            (f"{_FOLDER}/val/val_annotations.txt",),
        ),
    },
    downloads=(
        Download(
            "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
            "md5:90528d7ca1a48142e341f4ef8d21d0de",
            unpack=True,
        ),
    ),
)
def tiny_imagenet(root: Path, split: str) -> Listing:
    """Photographs of 200 ImageNet classes, 64x64 (Stanford CS231n 2015).

    "test" is the official validation set: the labels of the official test set are not public.
    """
    ids_path, folder, *annotations = locate("tiny-imagenet", root, split)
    ids = sorted(_text(ids_path).split())
    if not ids or len(set(ids)) != len(ids):
        raise broken(ids_path, "one class id per line is expected, each once")
    if split == "train":
        rows = [
            (file, number)
            for number, wnid in enumerate(ids)
            for file in sorted((folder / wnid / "images").glob("*.JPEG"))
        ]
        if not rows:
            raise broken(folder, "it holds no CLASS/images/*.JPEG")
    else:
        rows = _annotated(annotations[0], folder, {wnid: number for number, wnid in enumerate(ids)})
    paths, labels = zip(*rows, strict=True)
    return Listing(paths, labels, _names(ids_path.with_name("words.txt"), ids), "tiny-imagenet", 64)


def _annotated(table: Path, folder: Path, numbers: dict[str, int]) -> list[tuple[Path, int]]:
    rows = []
    for line in _text(table).splitlines():
        file, _, rest = line.partition("\t")
        wnid = rest.partition("\t")[0]
        if wnid not in numbers or Path(file).name != file:
            raise broken(table, f"the line {line!r:.60} is not FILE, class id, box")
        rows.append((folder / file, numbers[wnid]))
    if not rows:
        raise broken(table, "it lists no images")
    return rows


def _names(words: Path, ids: list[str]) -> tuple[str, ...]:
    """The first word of each class, with its id where two classes share one ("crane")."""
    table: dict[str, str] = {}
    if words.is_file():
        for line in _text(words).splitlines():
            wnid, _, meaning = line.partition("\t")
            table[wnid] = meaning.partition(",")[0].strip()
    first = [table.get(wnid) or wnid for wnid in ids]
    often = Counter(first)
    return tuple(
        name if often[name] == 1 else f"{name} ({wnid})"
        for name, wnid in zip(first, ids, strict=True)
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise broken(path, "it is not text") from error
