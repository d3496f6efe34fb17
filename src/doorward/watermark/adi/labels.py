"""The labels of a marking key: drawn uniformly from the system's random numbers, or given.

>>> draw_labels(1000, classes=10).bincount().min() > 50
tensor(True)
>>> given_labels([3, 1, 4], 3, classes=10)
tensor([3, 1, 4])
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence

import torch
from torch import Tensor

from doorward.errors import InvalidInput
from doorward.watermark.adi.pictures import read_numbers

__all__ = ["check_labels", "draw_labels", "given_labels"]


def draw_labels(n: int, classes: int) -> Tensor:
    """Independent labels, exactly uniform on ``0..classes-1``, int64 ``(n,)``."""
    return torch.tensor([secrets.randbelow(classes) for _ in range(n)], dtype=torch.int64)


def given_labels(given: str | os.PathLike[str] | Sequence[int], n: int, classes: int) -> Tensor:
    """Labels from a file of numbers, one a line, or from the numbers themselves.

    Returns:
        int64 ``(n,)``.

    Raises:
        MissingData, BadFile: as `pictures.read_numbers`.
        InvalidInput: there is another number of them, or one is no class.
    """
    numbers = read_numbers(given) if isinstance(given, str | os.PathLike) else list(given)
    if len(numbers) != n:
        raise InvalidInput(
            f"there are {len(numbers)} labels for {n} pictures",
            remedy="give one label for each picture, in the order of the pictures' names",
        )
    labels = torch.tensor(numbers, dtype=torch.int64)
    check_labels(labels, classes)
    return labels


def check_labels(labels: Tensor, classes: int) -> None:
    """Refuse labels outside ``0..classes-1``.

    Raises:
        InvalidInput: there is one.
    """
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise InvalidInput(
            f"label {low if low < 0 else high} is out of range",
            why=f"there are {classes} classes, numbered from 0",
            remedy="correct the labels, or the number of classes",
        )
