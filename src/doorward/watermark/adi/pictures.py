"""The owner's own pictures and labels: a folder of images, a file of numbers.

>>> import pathlib, tempfile
>>> from PIL import Image
>>> folder = pathlib.Path(tempfile.mkdtemp())
>>> for number in (1, 2, 10):
...     Image.new("L", (40, 30), 20 * number).save(folder / f"{number}.png")
>>> [path.name for path in list_pictures(folder)]
['1.png', '10.png', '2.png']
>>> load_pictures(folder, (1, 16, 16))[:, 0, 0, 0].tolist()
[20, 200, 40]

The order is that of `torchvision.datasets.ImageFolder`, which the authors' labels file follows:
names sorted as text, 1, 10, 100, 11, ... Their code cuts the central 32x32 patch out of each large
picture *without resizing it* (``fit="crop"``), so that some triggers are nearly flat colour;
``fit="resize"`` shows the whole picture.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from doorward.bundles.documents import read_limited
from doorward.data import ImageData
from doorward.data.image_files import EXTENSIONS, read_image
from doorward.errors import BadFile, InvalidInput, MissingData
from doorward.watermark.patterns import check_image_shape

__all__ = ["Fit", "check_fit", "fit_picture", "list_pictures", "load_pictures", "read_numbers"]

Fit = Literal["crop", "resize"]

_MOST_BYTES = 2**20  # of a labels file
_NUMBER = re.compile(r"[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?", re.ASCII)


def list_pictures(folder: str | os.PathLike[str]) -> list[Path]:
    """Image files of a folder in the order of `torchvision.datasets.ImageFolder`.

    Args:
        folder: holds the images themselves, or folders that hold them (``trigger_set/pics/1.jpg``
            in the authors' repository), but not both.

    Returns:
        Paths, folder by folder, names sorted as text.

    Raises:
        MissingData: there is no such folder, or no image in it.
        InvalidInput: images lie both in it and in its folders.
    """
    root = Path(folder)
    if not root.is_dir():
        raise MissingData(f"there is no folder {root}", remedy="check the path")
    here = sorted(path for path in root.iterdir() if path.is_file() and _is_picture(path))
    below = [
        path
        for group in sorted(path for path in root.iterdir() if path.is_dir())
        for path in _of_group(group)
    ]
    if here and below:
        raise InvalidInput(
            f"{root} holds images, and folders with images",
            why="which ones are meant, and in which order, is unclear",
            remedy="put the trigger images into a folder of their own",
        )
    if not here and not below:
        raise MissingData(
            f"there are no images in {root}",
            why=f"files called {', '.join(sorted(EXTENSIONS))} are looked for",
            remedy="check the path",
        )
    return here or below


def load_pictures(
    folder: str | os.PathLike[str], image_shape: tuple[int, int, int], *, fit: Fit = "crop"
) -> Tensor:
    """Read a folder of trigger images.

    Args:
        folder: see `list_pictures`.
        image_shape: ``(C, H, W)`` of the model's input, C in {1, 3}.
        fit: see `fit_picture`.

    Returns:
        uint8 ``(n, C, H, W)``, in the order of `list_pictures`.

    Raises:
        MissingData: as `list_pictures`.
        BadFile: a file is corrupt, no image, or has more than 8 bits a channel.
        InvalidInput: a picture is smaller than the crop, or shape or `fit` is not possible.
    """
    check_image_shape(image_shape)
    channels, height, width = image_shape
    pictures = []
    for path in list_pictures(folder):
        picture = read_image(path, None, channels)
        try:
            pictures.append(fit_picture(picture, (height, width), fit))
        except InvalidInput as error:
            raise InvalidInput(
                f"{path}: {error.what}", why=error.why, remedy=error.remedy
            ) from error
    return torch.stack(pictures)


def fit_picture(picture: Tensor, size: tuple[int, int], fit: Fit = "crop") -> Tensor:
    """Bring one picture to the model's size.

    Args:
        picture: uint8 ``(C, H, W)``.
        size: height and width wanted.
        fit: ``"crop"`` cuts the central patch and resizes nothing, as the authors' code does (with
            the rounding of torchvision's `CenterCrop`); ``"resize"`` cuts the largest central part
            of the right proportions and resamples that (bilinear, anti-aliased).

    Returns:
        uint8 ``(C, *size)``.

    Raises:
        InvalidInput: ``"crop"`` of a picture that is too small, or another `fit`.

    >>> fit_picture(torch.arange(25, dtype=torch.uint8).view(1, 5, 5), (3, 3)).flatten().tolist()
    [6, 7, 8, 11, 12, 13, 16, 17, 18]
    """
    _, height, width = picture.shape
    check_fit(fit)
    if fit == "crop":
        if height < size[0] or width < size[1]:
            raise InvalidInput(
                f"the picture is {height}x{width}",
                why=f"its central {size[0]}x{size[1]} pixels are wanted",
                remedy='give larger pictures, or resize them with fit="resize" (--fit resize)',
            )
        return _central(picture, size)
    scale = min(height / size[0], width / size[1])
    part = _central(
        picture,
        (max(1, min(height, round(size[0] * scale))), max(1, min(width, round(size[1] * scale)))),
    )
    one = ImageData(part[None], torch.zeros(1, dtype=torch.int64), ("picture",))
    return one.resized(size).images[0]


def check_fit(fit: str) -> None:
    """Refuse an unknown way to bring pictures to size.

    Raises:
        InvalidInput: it is neither ``"crop"`` nor ``"resize"``.
    """
    if fit not in ("crop", "resize"):
        raise InvalidInput(f"fit is {fit!r}", why="'crop' and 'resize' are known")


def read_numbers(path: str | os.PathLike[str], *, undefined: bool = False) -> list[int | None]:
    """Read a file of class numbers, one a line, written as whole or floating-point numbers.

    The authors' ``labels-cifar.txt`` holds 100 lines such as ``7.000000000000000000e+00``.

    Args:
        path: a text file; empty lines at its end do not count.
        undefined: allow the word ``undefined`` for None.

    Raises:
        MissingData: there is no such file.
        BadFile: a line is no class number; the message names it.
    """
    try:
        lines = read_limited(path, _MOST_BYTES).decode().rstrip().splitlines()
    except UnicodeDecodeError as error:
        raise BadFile(f"{path} is not a text file", why=error.reason) from error
    numbers: list[int | None] = []
    for number, line in enumerate(lines, 1):
        word = line.strip()
        if undefined and word.lower() == "undefined":
            numbers.append(None)
            continue
        value = float(word) if _NUMBER.fullmatch(word) else -1.0
        if not (0 <= value < 2**31 and value.is_integer()):
            raise BadFile(
                f"{path}, line {number}: {word!r:.40} is no class number",
                why="each line holds one whole number from 0, which may be written as 3.0"
                + (", or the word undefined" if undefined else ""),
                remedy="correct the file",
            )
        numbers.append(int(value))
    return numbers


def _central(picture: Tensor, size: tuple[int, int]) -> Tensor:
    # round() to even at .5, as torchvision does it.
    top, left = (
        round((have - want) / 2) for have, want in zip(picture.shape[1:], size, strict=True)
    )
    return picture[:, top : top + size[0], left : left + size[1]].clone()


def _of_group(group: Path) -> list[Path]:
    """ImageFolder walks the folders of a class sorted by path, and in each the names sorted."""
    folders = sorted(str(path) for path in (group, *group.rglob("*")) if path.is_dir())
    return [
        path
        for folder in folders
        for path in sorted(Path(folder).iterdir())
        if path.is_file() and _is_picture(path)
    ]


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in EXTENSIONS
