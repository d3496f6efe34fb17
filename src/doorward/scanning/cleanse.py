"""Neural Cleanse: a class that one small stamp reaches from all others is suspicious.

    result, recovered = scan(model, clean, "neural-cleanse")
    result.findings[3].statistic, result.findings[3].details["size"]

>>> NeuralCleanse().alarm, NeuralCleanse().searched[:29]
(2.0, 'one small stamp for each clas')
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from doorward.data import ImageData
from doorward.records import STRICT
from doorward.scanning.base import Finding, Look, Scanner, file_scanner
from doorward.scanning.inversion import anomaly_index, invert
from doorward.scanning.measuring import held_out_success, require_several_classes
from doorward.scanning.recovered import Recovered
from doorward.scanning.searching import PASS_SIZE, smallness
from doorward.scanning.stamps import Stamp
from doorward.training.context import Context

__all__ = ["NeuralCleanse"]


@file_scanner(
    "neural-cleanse",
    paper="Wang et al. 2019, Neural Cleanse: Identifying and Mitigating Backdoor Attacks",
    finds="one small fixed patch per class",
    images="some hundreds",
)
@dataclass(frozen=True, kw_only=True, config=STRICT)
class NeuralCleanse(Scanner):
    """Invert the smallest stamp of every class; one far smaller than the others is a backdoor's.

    The statistic is the anomaly index of the logarithm of each mask's size (`smallness`); a class
    that no stamp reached counts with the size of the whole image.

    Args:
        alarm: statistic above which a class is accused; 2 is the paper's, for its own index.
        epochs: at most so many passes over the clean images.
        batch_size: images per step, each stamped for every class that is still searched.
        lr: of Adam.
        success: share of the images that a stamp must send to its class.
        patience: epochs in a row before the weight of its size is adapted.
        stall: a class whose stamp has stopped to shrink for so many epochs is left; None for
            never.
        held_out: share of the clean images that only serve to measure the stamps.
        least_spread: of the logarithms of the sizes, see `smallness`.
        pass_size: stamped images per pass through the classifier; bounds the memory.

    Wang et al. (2019) as their code has it: loss, tanh parametrisation, Adam, weights, patience,
    success 0.99, the end after 25 epochs without progress. Epochs and batches are BackdoorBench's.
    Ours: all classes share one forward pass and each leaves it when it is done; logarithms, sign
    and least spread of the index (the paper's is in ``details``); stamps are measured on images
    that the search has not seen.
    """

    searched = (
        "one small stamp for each class, at the same place of every image, that sends images of "
        "all classes to it; not searched: triggers that cover the image, warp it or differ from "
        "image to image, and backdoors for some source classes only"
    )

    passes = "pass_size"

    alarm: float = 2.0
    epochs: Annotated[int, Field(ge=1)] = 80
    batch_size: Annotated[int, Field(ge=1)] = 32
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.1
    success: Annotated[float, Field(gt=0, le=1)] = 0.99
    patience: Annotated[int, Field(ge=1)] = 5
    stall: Annotated[int, Field(ge=1)] | None = 25
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.2
    least_spread: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.5
    pass_size: Annotated[int, Field(ge=1)] = PASS_SIZE

    def check(self, model: nn.Module, clean: ImageData) -> None:
        """Triggers of a class are tried on images of others."""
        require_several_classes(clean)

    def look(self, model: nn.Module, clean: ImageData, context: Context) -> Look:
        """Invert all classes, compare their sizes, measure the stamps."""
        work, held_out = context.hold_out(clean, self.held_out)
        found = invert(
            model,
            work,
            context,
            epochs=self.epochs,
            batch_size=self.batch_size,
            lr=self.lr,
            wanted=self.success,
            patience=self.patience,
            stall=self.stall,
            pass_size=self.pass_size,
        )
        context.note(anomaly_index=anomaly_index(found.norms).tolist())
        index = smallness(found.norms, self.least_spread)
        findings: list[Finding] = []
        recovered: dict[int, Recovered] = {}
        for k, reached in enumerate(found.reached.tolist()):
            measured = None
            if reached:
                recovered[k] = Stamp.of(k, mask=found.masks[k], pattern=found.patterns[k])
                draw = context.generator("measure", k)
                measured = held_out_success(
                    model, recovered[k], held_out, draw, batch_size=self.pass_size
                )
            details = {
                "size": float(found.norms[k]),
                "reached": reached,
                "search_success": float(found.success[k]),
            }
            findings.append(
                Finding(target=k, statistic=index[k], attack_success=measured, details=details)
            )
        return Look(findings, recovered)
