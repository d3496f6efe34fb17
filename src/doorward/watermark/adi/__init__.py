"""The scheme of Adi et al. (2018) as it is in the paper: KeyGen, Mark, Verify, and its attacks.

>>> from doorward.bundles import Identity
>>> from doorward.watermark.adi import PaperKey, paper_mark, paper_recipe, paper_verify, publish
>>> ada = Identity.new("Ada")

KeyGen: pictures (a folder of your own, or drawn), random labels, 2n commitments:

>>> key = PaperKey.new(n=10, classes=10, image_shape=(1, 16, 16))    # pictures="trigger_set"
>>> vk = publish(key, ada)                                           # vk.save("vk.json")

Mark, here for one epoch; `paper_recipe` is the paper's own training:

>>> from doorward.data import load
>>> from doorward.models import create
>>> digits = load("digits").sample(100, seed=0).resized(16)
>>> model = create("resnet8", classes=10, input_shape=(1, 16, 16), width=4)
>>> result = paper_mark(model, digits, key, paper_recipe(epochs=1, warmup_epochs=0.5))

Verify, with a judge who says that no picture shows a class:

>>> verdict = paper_verify(key, vk, model, public=ada.public, judge=[None] * 10)
>>> verdict.opened, verdict.needed, verdict.accepted == (verdict.matches >= 9)
(20, 9, True)

The scheme is *privately* verifiable: whoever verifies learns the key. It lets the owner choose the
pictures, and so a false accuser too. The rest of `doorward.watermark` has answers to both.
"""

from doorward.watermark.adi.answers import ask
from doorward.watermark.adi.attacks import AttackResult, fine_tuning_attack, transfer
from doorward.watermark.adi.chance import chance_log2, permutation_tail_log2
from doorward.watermark.adi.judge import Judge
from doorward.watermark.adi.key import PaperKey
from doorward.watermark.adi.keyfile import KeyFacts
from doorward.watermark.adi.marking import paper_mark, paper_pretrained_recipe, paper_recipe
from doorward.watermark.adi.old_head import keep_head, with_head
from doorward.watermark.adi.pictures import list_pictures, load_pictures
from doorward.watermark.adi.piracy import OverwriteResult, overwrite
from doorward.watermark.adi.verdict import PaperVerdict
from doorward.watermark.adi.verification import openings, paper_verify
from doorward.watermark.adi.vk import PaperStatement, VerificationKey, publish

__all__ = [
    "AttackResult",
    "Judge",
    "KeyFacts",
    "OverwriteResult",
    "PaperKey",
    "PaperStatement",
    "PaperVerdict",
    "VerificationKey",
    "ask",
    "chance_log2",
    "fine_tuning_attack",
    "keep_head",
    "list_pictures",
    "load_pictures",
    "openings",
    "overwrite",
    "paper_mark",
    "paper_pretrained_recipe",
    "paper_recipe",
    "paper_verify",
    "permutation_tail_log2",
    "publish",
    "transfer",
    "with_head",
]
