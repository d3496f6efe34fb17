"""Masks on the feature maps of a model: the key of a lock.

A bank names sites and has a mask for each; applied or folded it gives the unlocked model:

>>> import torch
>>> from doorward.models import create
>>> from doorward.randomness import Secret
>>> model = create("resnet8", classes=10, input_shape=(1, 16, 16), width=4).eval()
>>> images = torch.rand(2, 1, 16, 16)
>>> bank = identity_bank(model, "channel", images)
>>> torch.equal(bank.apply(model)(images), model(images))
True
>>> signs = keyed_bank(model, "sign", images, Secret.new())
>>> torch.allclose(signs.fold(model)(images), signs.apply(model)(images), atol=1e-4)
True

`MASKS` lists the kinds; `TrainedMasks` is what the lock trains.
"""

from doorward.trading.masks.bank import MaskBank, Statistics
from doorward.trading.masks.kinds import MASKS, MaskKind
from doorward.trading.masks.placing import default_sites, identity_bank, keyed_bank
from doorward.trading.masks.trained import TrainedMasks

__all__ = [
    "MASKS",
    "MaskBank",
    "MaskKind",
    "Statistics",
    "TrainedMasks",
    "default_sites",
    "identity_bank",
    "keyed_bank",
]
