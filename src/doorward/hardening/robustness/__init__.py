"""Small disturbances of single images: what hardening must not make worse, and must not fake.

>>> from torch import nn
>>> from doorward.data import load
>>> digits = load("digits").sample(20, seed=0).resized(8)
>>> model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
>>> found = robustness(model, digits, queries=5, steps=2)
>>> found.images, found.pgd <= found.clean, found.transfer
(20, True, None)
"""

from doorward.hardening.robustness.checking import Robustness, robustness
from doorward.hardening.robustness.pgd import pgd_images
from doorward.hardening.robustness.square import square_images

__all__ = ["Robustness", "pgd_images", "robustness", "square_images"]
