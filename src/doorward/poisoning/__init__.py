"""Poisoning: training sets with a planted backdoor, and the victims trained on them.

A ready-made attack, a poisoned view of a data set, and what is in it:

>>> from doorward.data import load
>>> from doorward.poisoning import attack, poison
>>> digits = load("digits")
>>> backdoor = attack("badnets", image_shape=digits.image_shape, target=3)
>>> poisoned = poison(digits, backdoor, rate=0.1, seed=0)
>>> len(poisoned), poisoned.count
(1438, 144)

`implant` trains a victim on it and measures accuracy, attack success and robust accuracy; any
`Backdoor` of `doorward.triggers` will do:

    model = create("resnet8", classes=10, input_shape=digits.image_shape)
    result = implant(model, digits, backdoor, recipe, rate=0.1, test=load("digits", split="test"))
    result.attack_success

`plant` carries out every attack by its name, also those that control the training and learn their
trigger together with the victim:

    backdoor, result = plant(model, digits, "input-aware", recipe, test=test)
    backdoor.save("backdoor")  # with the trigger's weights

`PoisonResult.untriggered` says how many images get the attacker's label without the trigger;
`innocent_twin` trains a model that saw no poison, and shows it the trigger.

Attacks exist here to test defences.
"""

from doorward.poisoning.attacks import ATTACKS, attack, default_rate
from doorward.poisoning.control import TwinResult, innocent_twin
from doorward.poisoning.implanting import PoisonResult, implant
from doorward.poisoning.joint import InputAware, Lira, WarpNoise
from doorward.poisoning.planting import file_procedure, plant
from doorward.poisoning.poisoned import PoisonedData, poison
from doorward.poisoning.prepared import (
    HiddenCode,
    LabelConsistent,
    MixedClasses,
    Sunrise,
    prepare,
)
from doorward.poisoning.procedures import Job, Planted, Procedure

__all__ = [
    "ATTACKS",
    "HiddenCode",
    "InputAware",
    "Job",
    "LabelConsistent",
    "Lira",
    "MixedClasses",
    "Planted",
    "PoisonResult",
    "PoisonedData",
    "Procedure",
    "Sunrise",
    "TwinResult",
    "WarpNoise",
    "attack",
    "default_rate",
    "file_procedure",
    "implant",
    "innocent_twin",
    "plant",
    "poison",
    "prepare",
]
