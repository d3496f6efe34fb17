"""Trainable changes of images, many rows in one forward pass: whole-image families and patches.

>>> import torch
>>> change = Pervasive(3, (1, 16, 16), Space(families=("flow", "kernel")))
>>> sorted(change.parts), change(torch.rand(2, 1, 16, 16)).shape
(['flow', 'kernel'], torch.Size([3, 2, 1, 16, 16]))

`FAMILIES` lists the parts with what each can express. Zero parameters change nothing, so a distance
measured with them is not polluted by a reconstruction error.
"""

# Importing a part files it in FAMILIES.
from doorward.hardening.transforms.additive import Additive
from doorward.hardening.transforms.base import Change
from doorward.hardening.transforms.colour import Colour
from doorward.hardening.transforms.latent import Coder, Latent, train_coder
from doorward.hardening.transforms.local import Flow, Kernel, bilinear, local_mix
from doorward.hardening.transforms.patch import Patches
from doorward.hardening.transforms.pervasive import Pervasive
from doorward.hardening.transforms.residual import Residual
from doorward.hardening.transforms.space import FAMILIES, PLAIN, Family, Part, Space

__all__ = [
    "FAMILIES",
    "PLAIN",
    "Additive",
    "Change",
    "Coder",
    "Colour",
    "Family",
    "Flow",
    "Kernel",
    "Latent",
    "Part",
    "Patches",
    "Pervasive",
    "Residual",
    "Space",
    "bilinear",
    "local_mix",
    "train_coder",
]
