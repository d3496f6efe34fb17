"""One call for every scanner.

result, recovered = scan(model, clean, "mesa")
result.accused, result.searched
controls = controls_from({"first": scan(first, clean, "mesa")[0], "second": ...})
result, recovered = scan(model, clean, "mesa", controls=controls)
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from doorward.data import ImageData
from doorward.errors import InvalidInput
from doorward.scanning.base import Scanner, ScanResult, scanner
from doorward.scanning.controls import Controls
from doorward.scanning.recovered import Recovered
from doorward.training.context import Labels

__all__ = ["DEFAULT", "controls_from", "scan"]

DEFAULT = "mesa"
"""The scanner that is used where none is named."""


def scan(
    model: nn.Module,
    clean: ImageData,
    method: str | Scanner = DEFAULT,
    *,
    seed: int = 0,
    device: str | torch.device = "auto",
    labels: Labels = "given",
    controls: Controls | None = None,
    progress: bool = False,
) -> tuple[ScanResult, dict[int, Recovered]]:
    """Look for backdoors in a model, which stays as it is.

    Args:
        model: any module from images in [0, 1] to logits.
        clean: clean images that the model's task covers; some hundreds are plenty.
        method: a name in `SCANNERS` for its defaults, or a `Scanner`.
        seed: of everything random.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ...
        labels: ``"given"``, or ``"model"`` to do without labels.
        controls: from clean models, by the same scanner (see `controls_from`).
        progress: whether to draw progress bars.

    Returns:
        The verdict, and the recovered triggers by class, on the CPU.

    Raises:
        UnknownName: there is no such scanner.
        InvalidInput: images or controls do not fit.
        ModelUnsuitable: the model does not take the images, or the scanner cannot work on it.
    """
    chosen = scanner(method) if isinstance(method, str) else method
    if not isinstance(chosen, Scanner):
        raise InvalidInput(
            f"the scanner is a {type(chosen).__name__}",
            why="a name or a Scanner is expected",
            remedy="see doorward.scanning.SCANNERS",
        )
    return chosen(
        model,
        clean,
        seed=seed,
        device=device,
        labels=labels,
        controls=controls,
        progress=progress,
    )


def controls_from(results: Mapping[str, ScanResult]) -> Controls:
    """Controls made of scans of clean models.

    Args:
        results: by the model's name; all by one scanner with the same parameters.

    Raises:
        InvalidInput: there are none, or they were made in different ways.
    """
    if not results:
        raise InvalidInput("there are no control models", remedy="scan at least one clean model")
    first = next(iter(results.values()))
    for name, result in results.items():
        if (result.scanner, result.recipe_digest) != (first.scanner, first.recipe_digest):
            raise InvalidInput(
                f"{name} was scanned in another way than the first control model",
                remedy="scan all of them by one scanner with the same parameters",
            )
    return Controls(
        scanner=first.scanner,
        recipe_digest=first.recipe_digest,
        statistics=tuple(max(f.statistic for f in result.findings) for result in results.values()),
        models=tuple(results),
    )
