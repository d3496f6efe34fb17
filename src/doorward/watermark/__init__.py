"""Watermark: prove that a model is yours, from its answers alone.

After Adi et al. (2018), *Turning Your Weakness Into a Strength*, with keys instead of pictures.
A key is 32 secret bytes; trigger images and a label for each follow from it. The claim is public:
it commits to the key without showing it, and fixes what counts as proof.

>>> from doorward.bundles import Identity
>>> from doorward.watermark import WatermarkKey, embed, make_claim, verify
>>> ada = Identity.new("Ada")
>>> key = WatermarkKey.new(n=20, classes=10, image_shape=(1, 16, 16), owner=ada.public)
>>> claim = make_claim(key, ada, alpha=1e-9)

Mark while training (or a trained model, with ``mode="pretrained"``):

>>> from doorward.data import load
>>> from doorward.models import create
>>> from doorward.training import Recipe
>>> digits = load("digits").sample(200, seed=0).resized(16)
>>> model = create("resnet8", classes=10, input_shape=(1, 16, 16), width=8)
>>> result = embed(model, digits, key, Recipe(epochs=15, batch_size=64, lr=0.1))

And later, when a copy turns up somewhere - as a module, a file, behind HTTP:

>>> verdict = verify(claim, key, model, public=ada.public)
>>> verdict.verified, verdict.needed, verdict.log2_p < -30
(True, 14, True)
"""

from doorward.watermark.claim import Claim, Statement, make_claim
from doorward.watermark.embedding import EmbedResult, embed
from doorward.watermark.key import KeyParameters, WatermarkKey, draw_triggers
from doorward.watermark.methods import (
    EMBEDDINGS,
    App,
    AppMargin,
    Certificate,
    Certified,
    Embedding,
    Margin,
    Plain,
    certify,
    make_embedding,
)
from doorward.watermark.objective import MarkObjective, pretrained_recipe, triggers_per_batch
from doorward.watermark.patterns import GENERATORS, generate
from doorward.watermark.triggerset import TriggerSet
from doorward.watermark.verdict import Verdict
from doorward.watermark.verification import count_matches, verify

__all__ = [
    "EMBEDDINGS",
    "GENERATORS",
    "App",
    "AppMargin",
    "Certificate",
    "Certified",
    "Claim",
    "EmbedResult",
    "Embedding",
    "KeyParameters",
    "Margin",
    "MarkObjective",
    "Plain",
    "Statement",
    "TriggerSet",
    "Verdict",
    "WatermarkKey",
    "certify",
    "count_matches",
    "draw_triggers",
    "embed",
    "generate",
    "make_claim",
    "make_embedding",
    "pretrained_recipe",
    "triggers_per_batch",
    "verify",
]
