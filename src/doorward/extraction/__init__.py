"""Extraction: steal a model by its answers, to see whether your defences hold.

A victim, images to ask about, and a budget of questions:

>>> from doorward.data import load
>>> from doorward.extraction import EXTRACTIONS, procedural_pool, steal
>>> from doorward.models import create
>>> from doorward.training import Recipe
>>> victim = create("resnet8", classes=10, input_shape=(1, 16, 16), width=4)
>>> pool = procedural_pool(200, (1, 16, 16), seed=0)
>>> copy, result = steal(victim, pool, budget=150, options={"width": 4}, recipe=Recipe(epochs=1))
>>> result.queries, result.answers
(150, 'soft')

The victim may be anything that answers: a module, a bundle, an ONNX file, an HTTP endpoint. What
it tells is chosen by `answers`, how the thief works by `method`:

    steal("http://localhost:8000/v2/models/m", pool, budget=30_000, answers="label",
          substitute="resnet18", checkpoint="theft", validation=test)

With a checkpoint folder every answer is kept, and a theft that was cut off goes on where it was.
The objectives behind it train students in general:

    fit(student, Distillation(answers_of(teacher, images)), images, recipe)   # answers asked once
    fit(student, LiveDistillation(teacher, temperature=3), images, recipe)    # under augmentation
"""

# Importing a method files it in EXTRACTIONS.
from doorward.extraction.activethief import (
    ActiveThiefDeepFool,
    ActiveThiefEntropy,
    ActiveThiefKCenter,
)
from doorward.extraction.answers import Answers, answers_of
from doorward.extraction.base import EXTRACTIONS, Extraction, Theft, default_recipe
from doorward.extraction.datafree import DataFree
from doorward.extraction.dissector import DISSECTOR_RECIPE, BlackBoxDissector
from doorward.extraction.distillation import Distillation, LiveDistillation
from doorward.extraction.jacobian import JacobianAugmentation
from doorward.extraction.knockoff import KNOCKOFF_RECIPE, KnockoffAdaptive, KnockoffRandom
from doorward.extraction.pools import PROCEDURAL, open_pool
from doorward.extraction.procedural import procedural_pool
from doorward.extraction.results import StealResult
from doorward.extraction.spsg import SuperpixelGradients
from doorward.extraction.stealing import steal
from doorward.extraction.transfer import TransferSet
from doorward.extraction.victim import Victim

__all__ = [
    "DISSECTOR_RECIPE",
    "EXTRACTIONS",
    "KNOCKOFF_RECIPE",
    "PROCEDURAL",
    "ActiveThiefDeepFool",
    "ActiveThiefEntropy",
    "ActiveThiefKCenter",
    "Answers",
    "BlackBoxDissector",
    "DataFree",
    "Distillation",
    "Extraction",
    "JacobianAugmentation",
    "KnockoffAdaptive",
    "KnockoffRandom",
    "LiveDistillation",
    "StealResult",
    "SuperpixelGradients",
    "Theft",
    "TransferSet",
    "Victim",
    "answers_of",
    "default_recipe",
    "open_pool",
    "procedural_pool",
    "steal",
]
