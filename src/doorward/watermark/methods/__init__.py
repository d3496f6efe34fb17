"""How a mark is embedded: the plain way, and ways that make it harder to remove.

>>> from doorward.watermark.methods import EMBEDDINGS, make_embedding
>>> for name in EMBEDDINGS:
...     print(f"{name:10} {EMBEDDINGS.facts(name)['removal']}")
app        fine-tuning, pruning
app-margin fine-tuning, pruning, extraction
blended    fine-tuning, pruning, filtering
certified  bounded changes of the weights
margin     extraction
plain      none in particular
>>> make_embedding("app", {"eps": 0.05, "shift": 2}).eps
0.05

`doorward.watermark.embed` takes a name and options, or such a record. A method of one's own is a
subclass of `Embedding`, registered under a name; it overrides what it changes:

    @EMBEDDINGS.register("halved")
    @dataclass(frozen=True, kw_only=True, config=STRICT)
    class Halved(Embedding):
        "Triggers are learnt at half their brightness."

        def moved(self, step, images, targets):
            return images / 2
"""

from doorward.watermark.methods.app import App
from doorward.watermark.methods.app_margin import AppMargin
from doorward.watermark.methods.base import EMBEDDINGS, Embedding, Plain, make_embedding, name_of
from doorward.watermark.methods.blended import Blended, blend
from doorward.watermark.methods.certificate import Certificate, certify, matches_under_noise
from doorward.watermark.methods.certified import Certified
from doorward.watermark.methods.margin import Margin
from doorward.watermark.methods.step import MarkStep, Slope, attach, processes

__all__ = [
    "EMBEDDINGS",
    "App",
    "AppMargin",
    "Blended",
    "Certificate",
    "Certified",
    "Embedding",
    "Margin",
    "MarkStep",
    "Plain",
    "Slope",
    "attach",
    "blend",
    "certify",
    "make_embedding",
    "matches_under_noise",
    "name_of",
    "processes",
]
