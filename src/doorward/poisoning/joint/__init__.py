"""Attacks that control the training: WaNet with its noise mode, input-aware triggers, LIRA.

    from doorward.poisoning import plant

    backdoor, result = plant(model, train, "input-aware", recipe, target=3, test=test)
    result.attack_success, result.details["cross_accuracy"]
    backdoor.save("backdoor")

Each is a `Procedure`, to be given instead of its name where its constants shall differ:

>>> InputAware(mask_epochs=5, width=8).cross_ratio, WarpNoise().cross_ratio, Lira().alpha
(1.0, 2.0, 0.5)

The victim is trained by the caller's recipe and the one loop. What it is shown is composed anew in
every step by the attack's objective, which also takes a step of the trigger's network with an
optimiser of its own; its state is kept in the checkpoints.
"""

from doorward.poisoning.joint.base import JointAttack, TriggerTraining
from doorward.poisoning.joint.inputaware import InputAware, diversity
from doorward.poisoning.joint.lira import Lira
from doorward.poisoning.joint.noisewarp import WarpNoise

__all__ = ["InputAware", "JointAttack", "Lira", "TriggerTraining", "WarpNoise", "diversity"]
