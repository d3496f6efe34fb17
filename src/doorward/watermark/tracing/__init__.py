"""Tracing: a mark of its own for every buyer's copy, so that a leaked one names its buyer.

All copies answer the same secret pictures; which labels they give is a code word for the copy's
number. One key serves 2^16 buyers and more:

>>> from doorward.watermark import WatermarkKey
>>> key = WatermarkKey.new(n=40, classes=10, image_shape=(1, 16, 16))
>>> register = Register.of(key).sell("Acme").sell("Bolt")
>>> payloads = [sale.payload for sale in register.sales]

A copy is a short training of its own from one trained model:

>>> from doorward.data import load
>>> from doorward.models import create
>>> from doorward.training import Recipe, fit
>>> digits = load("digits").sample(300, seed=0).resized(16)
>>> model = create("resnet8", classes=10, input_shape=(1, 16, 16), width=8)
>>> trained_with = Recipe(epochs=2, batch_size=64, lr=0.2)
>>> _ = fit(model, None, digits, trained_with)
>>> recipe = copy_recipe(trained_with)
>>> copies = mark_copies(model, digits, register.code(key), payloads, recipe, per_batch=20)
>>> first = next(copies)

And later, when one turns up - as a module, a file, behind HTTP:

>>> trace(first.model, key, register).buyer, trace(model, key, register).buyer
('Acme', None)

`commit_register` binds the seller to the register, and says what that proves to others.
"""

from doorward.watermark.tracing.asking import ask
from doorward.watermark.tracing.code import BLOCK_BITS, NO_ANSWER, TracingCode
from doorward.watermark.tracing.commitment import (
    RegisterCommitment,
    RegisterStatement,
    commit_register,
)
from doorward.watermark.tracing.copies import Copy, CopyResult, copy_recipe, mark_copies
from doorward.watermark.tracing.evidence import Decoded, log2_best_of
from doorward.watermark.tracing.mark import BuyerMark
from doorward.watermark.tracing.receipts import Receipt, receipt_for
from doorward.watermark.tracing.register import Register, Sale
from doorward.watermark.tracing.result import Found, TraceResult
from doorward.watermark.tracing.tracing import trace, trace_answers

__all__ = [
    "BLOCK_BITS",
    "NO_ANSWER",
    "BuyerMark",
    "Copy",
    "CopyResult",
    "Decoded",
    "Found",
    "Receipt",
    "Register",
    "RegisterCommitment",
    "RegisterStatement",
    "Sale",
    "TraceResult",
    "TracingCode",
    "ask",
    "commit_register",
    "copy_recipe",
    "log2_best_of",
    "mark_copies",
    "receipt_for",
    "trace",
    "trace_answers",
]
