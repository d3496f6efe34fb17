"""Attacks that prepare their trigger, or their poisoned images, from data before the victim.

Each is a frozen record of constants, registered in ``ATTACKS``: `HiddenCode` ("steganographic"),
`Sunrise` ("style"), `MixedClasses` ("composite") and `LabelConsistent` ("clean-label"). The
poisoned data alone, without a victim:

>>> from doorward.data import load
>>> from doorward.poisoning.prepared import MixedClasses, prepare
>>> backdoor, poisoned = prepare(load("digits"), MixedClasses(first=1, second=8), rate=0.4)
>>> backdoor.rule, poisoned.count
(SourceToTarget(sources=(1,), target=0), 58)

`doorward.poisoning.plant` trains a victim on them and measures it:

    backdoor, result = plant(model, train, "steganographic", recipe, test=test)
    result.attack_success, result.details["bit_accuracy"], result.strength.psnr
    backdoor.save("backdoor")          # with the networks' weights
"""

from doorward.poisoning.prepared.base import Prepared, prepare
from doorward.poisoning.prepared.cleanlabel import LabelConsistent
from doorward.poisoning.prepared.hiding import HiddenCode
from doorward.poisoning.prepared.mixing import MixedClasses
from doorward.poisoning.prepared.styling import Sunrise
from doorward.poisoning.prepared.surrogates import FastAdversarial, ascend, surrogate

__all__ = [
    "FastAdversarial",
    "HiddenCode",
    "LabelConsistent",
    "MixedClasses",
    "Prepared",
    "Sunrise",
    "ascend",
    "prepare",
    "surrogate",
]
