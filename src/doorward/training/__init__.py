"""Training: one loop, and what it minimises.

A model, an objective, images and a recipe:

>>> from torch import nn
>>> from doorward.data import load
>>> from doorward.training import CrossEntropy, Recipe, fit
>>> model = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(64, 10))
>>> result = fit(model, CrossEntropy(), load("digits"), Recipe(epochs=1, lr=0.5))
>>> result.steps
6

Objectives are callables; whatever a method wants from training, it says in one:

>>> def confident(model, batch):
...     probabilities = model(batch.images).float().softmax(1)
...     entropy = -(probabilities * probabilities.clamp_min(1e-9).log()).sum(1).mean()
...     return entropy, {"largest": probabilities.detach().amax(1).mean()}
>>> sorted(fit(model, confident, load("digits"), Recipe(max_steps=2)).final)
['epoch', 'largest', 'loss', 'lr', 'seconds', 'step']

With a checkpoint folder, a killed run goes on where it was when the same call is made again, and
ends with the same weights, bit for bit (on a CPU):

    fit(model, None, train, recipe, validation=test, checkpoint="runs/first", progress=True)
"""

from doorward.training.batchnorm import clean_rows
from doorward.training.distributed import is_main_process
from doorward.training.loop import fit
from doorward.training.objectives import CrossEntropy, Objective, Sum
from doorward.training.presets import recipe_for
from doorward.training.recipe import FitResult, Recipe

__all__ = [
    "CrossEntropy",
    "FitResult",
    "Objective",
    "Recipe",
    "Sum",
    "clean_rows",
    "fit",
    "is_main_process",
    "recipe_for",
]
