"""Removal: take a backdoor or a watermark out of a model.

One call, any method, any module; the given model stays as it is:

>>> from doorward.data import load
>>> from doorward.models import create
>>> from doorward.removal import REMOVALS, FineTuning, remove
>>> digits = load("digits").sample(64, seed=0).resized(16)
>>> model = create("resnet8", classes=10, input_shape=(1, 16, 16), width=4)
>>> repaired, result = remove(model, digits, FineTuning(epochs=1, lr=0.02))
>>> result.method, result.images, result.history[-1]["phase"]
('fine-tuning', 64, 'fine-tune')

`REMOVALS` lists the methods; a name stands for a method's defaults, `removal(name, **parameters)`
changes some of them. The attacks of Adi et al. on watermarks are ready-made in `ADI_ATTACKS`:

    for name, attack in ADI_ATTACKS.items():
        attacked, _ = remove(marked, clean, attack, seed=0)

What that did to the task, `side_effects` tells; `purge` keeps a budget of accuracy.

A method of your own is a subclass of `Removal` with one hook; see `doorward.removal.base`.
"""

# Importing a method files it in REMOVALS.
from doorward.removal.anp import AdversarialNeuronPruning
from doorward.removal.base import REMOVALS, Removal, RemovalResult, removal
from doorward.removal.btidbf import DecoupledUnlearning
from doorward.removal.choosing import Choice, strongest
from doorward.removal.clp import LipschitzPruning
from doorward.removal.finepruning import FinePruning
from doorward.removal.finetuning import ADI_ATTACKS, FineTuning
from doorward.removal.fst import FeatureShift
from doorward.removal.ibau import ImplicitUnlearning
from doorward.removal.mesaunlearning import MESA_PAPER, DistributionUnlearning, unlearn
from doorward.removal.nad import AttentionDistillation
from doorward.removal.ncunlearning import CleanseUnlearning
from doorward.removal.pruning import MagnitudePruning
from doorward.removal.purging import PurgeResult, purge
from doorward.removal.quantisation import Quantisation
from doorward.removal.rnp import ReconstructivePruning
from doorward.removal.running import remove
from doorward.removal.sam import SharpnessAware
from doorward.removal.sau import SharedUnlearning
from doorward.removal.sideeffects import SideEffects, side_effects
from doorward.training.context import Context

__all__ = [
    "ADI_ATTACKS",
    "MESA_PAPER",
    "REMOVALS",
    "AdversarialNeuronPruning",
    "AttentionDistillation",
    "Choice",
    "CleanseUnlearning",
    "Context",
    "DecoupledUnlearning",
    "DistributionUnlearning",
    "FeatureShift",
    "FinePruning",
    "FineTuning",
    "ImplicitUnlearning",
    "LipschitzPruning",
    "MagnitudePruning",
    "PurgeResult",
    "Quantisation",
    "ReconstructivePruning",
    "Removal",
    "RemovalResult",
    "SharedUnlearning",
    "SharpnessAware",
    "SideEffects",
    "purge",
    "removal",
    "remove",
    "side_effects",
    "strongest",
    "unlearn",
]
