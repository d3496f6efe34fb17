"""APP and margin together: against changes of the weights, and against extraction.

>>> from doorward.watermark.methods import make_embedding
>>> method = make_embedding("app-margin", {"eps": 0.05})
>>> method.eps, method.steps
(0.05, 5)
"""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from doorward.records import STRICT
from doorward.watermark.methods.app import App
from doorward.watermark.methods.base import EMBEDDINGS
from doorward.watermark.methods.margin import Margin

__all__ = ["AppMargin"]


@EMBEDDINGS.register(
    "app-margin",
    paper="ours: Gan et al. 2023 with Kim et al. 2023",
    removal="fine-tuning, pruning, extraction",
)
@dataclass(frozen=True, kw_only=True, config=STRICT)
class AppMargin(App, Margin):
    """Triggers are moved as by ``margin``, then learnt as by ``app``.

    Each parent changes one thing (`moved` the images, `besides` the weights) and brings its own
    options; the worst weights are those for the moved images.
    """
