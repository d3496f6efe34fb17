"""Attack a mark before somebody else does: the table that shows what it withstands.

>>> from doorward.data import load
>>> from doorward.models import create
>>> from doorward.training import Recipe
>>> from doorward.watermark import WatermarkKey
>>> digits = load("digits").resized(16).sample(60, seed=0)
>>> key = WatermarkKey.new(n=20, classes=10, image_shape=(1, 16, 16))
>>> model = create("resnet8", classes=10, input_shape=(1, 16, 16), width=4)
>>> thief = Thief(data=digits, recipe=Recipe(epochs=1, batch_size=30))
>>> attacks = standard_attacks(families=("quantisation",))
>>> table = attack_table(model, key, thief, digits, attacks)
>>> [row.attack.label for row in table.rows]
['no attack', 'int8 weights', 'int8 weights and activations']

Fine-tuning in its four forms over a grid of learning rates, pruning, quantisation, unlearning,
overwriting, transfer, distillation and extraction: `standard_attacks` lists them with the constants
of the literature, `attack_table` runs them, each on a fresh copy, and resumes from its file;
`summarise` makes means and spreads of the tables of several seeds.
"""

from doorward.watermark.suite import copying, rewriting
from doorward.watermark.suite.attack import ATTACKS, Attack, Struck, Thief, strike
from doorward.watermark.suite.running import attack_table
from doorward.watermark.suite.standard import FAMILIES, RATES, standard_attacks
from doorward.watermark.suite.summary import AttackSummary, Spread, summarise
from doorward.watermark.suite.table import AttackRow, AttackTable

__all__ = [
    "ATTACKS",
    "FAMILIES",
    "RATES",
    "Attack",
    "AttackRow",
    "AttackSummary",
    "AttackTable",
    "Spread",
    "Struck",
    "Thief",
    "attack_table",
    "copying",
    "rewriting",
    "standard_attacks",
    "strike",
    "summarise",
]
