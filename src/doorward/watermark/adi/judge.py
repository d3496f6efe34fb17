"""The judge's part: no committed label may be a true one.

>>> import torch
>>> pictures = torch.zeros(3, 1, 8, 8, dtype=torch.uint8)
>>> true_labels([4, None, 7], pictures, classes=10)
[4, None, 7]
>>> correct_labels([4, None, 7], torch.tensor([3, 5, 7]))
[2]

``f`` maps meaningful pictures to their class and all others to "undefined" (bottom, None here).
A judge is somebody who looks at the pictures: nobody has a program for f. So it is given from
outside, as a file, a list or a function.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from torch import Tensor

from doorward.errors import InvalidInput
from doorward.watermark.adi.pictures import read_numbers

__all__ = ["Judge", "correct_labels", "true_labels"]

Judge = Callable[[Tensor], Sequence[int | None]] | Sequence[int | None] | str | os.PathLike[str]
"""A function from uint8 pictures ``(n, C, H, W)`` to true classes (None, or -1, for a picture that
shows no class), those classes, or a file with one a line, as numbers or the word ``undefined``."""


def true_labels(judge: Judge, pictures: Tensor, classes: int) -> list[int | None]:
    """f(t_1) to f(t_n), as the judge sees them.

    Args:
        judge: see `Judge`.
        pictures: uint8 ``(n, C, H, W)``.
        classes: L.

    Returns:
        A class in ``0..classes-1``, or None for undefined, for each picture.

    Raises:
        InvalidInput: there is another number of answers, or one is no class.
        MissingData, BadFile: the file is not there, or not of this form.
    """
    if isinstance(judge, str | os.PathLike):
        said: Sequence[int | None] = read_numbers(judge, undefined=True)
    elif callable(judge):
        said = judge(pictures.clone())
    else:
        said = judge
    if isinstance(said, Tensor):
        said = said.tolist()
    answers = [None if entry is None or entry == -1 else entry for entry in said]
    if len(answers) != len(pictures):
        raise InvalidInput(
            f"the judge gave {len(answers)} answers on {len(pictures)} pictures",
            remedy="give one class, or undefined, for each picture",
        )
    for number, entry in enumerate(answers):
        whole = entry is None or (isinstance(entry, int) and not isinstance(entry, bool))
        if not whole or not (entry is None or 0 <= entry < classes):
            raise InvalidInput(
                f"the judge called picture {number} {entry!r:.40}",
                why=f"a class from 0 to {classes - 1}, or undefined, is needed",
            )
    return answers


def correct_labels(truth: Sequence[int | None], labels: Tensor) -> list[int]:
    """Numbers of the pictures whose committed label is the true one; one is enough to reject."""
    pairs = zip(truth, labels.tolist(), strict=True)
    return [number for number, (true, given) in enumerate(pairs) if true == given]
