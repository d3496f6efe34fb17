"""Whose copy is this? The seller's question, answered from a suspect's labels alone.

>>> from doorward.watermark.key import WatermarkKey
>>> key = WatermarkKey.new(n=60, image_shape=(1, 16, 16))
>>> register = Register.of(key).sell("Acme").sell("Bolt")
>>> labels = register.code(key).encode(register.sales[1].payload)
>>> leak = lambda images: labels[[asked.index(image.tobytes()) for image in images.numpy()]]
>>> asked = [image.tobytes() for image in key.triggers()[0].float().div(255).numpy()]
>>> result = trace(leak, key, register)
>>> result.buyer, result.found[0].matches, result.found[0].confidence > 0.999
('Bolt', 60, True)

All 2^bits payloads are considered, sold or not, and the p-value pays for all of them: who keeps the
register gains nothing from how payloads were given out, and one that nobody bought shows that
the register is not complete.

Colluding buyers make one model out of their copies. After the best payload, the triggers that
its labels do not explain are tested for a second one, and so on. That test stays exact for anybody
who had no part in it: which triggers are left depends on the answers and on the labels of payloads
found, and another's labels are independent of both. (For codes of one block. With several, two
payloads may share a block, and only the best is looked for.)
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import torch
from torch import Tensor

from doorward.bundles import open_black_box
from doorward.data import ImageSource
from doorward.errors import InvalidInput
from doorward.watermark.key import WatermarkKey
from doorward.watermark.tracing.asking import ask
from doorward.watermark.tracing.code import TracingCode
from doorward.watermark.tracing.evidence import Decoded
from doorward.watermark.tracing.register import Register
from doorward.watermark.tracing.result import Found, TraceResult
from doorward.watermark.verifying.naming import describe
from doorward.watermark.verifying.plan import QueryPlan

__all__ = ["trace", "trace_answers"]

MOST = 64
"""Copies that a suspect is taken apart into, at most."""


def trace(
    suspect: Any,
    key: WatermarkKey,
    register: Register | None = None,
    *,
    bits: int = 16,
    alpha: float = 2.0**-20,
    plan: QueryPlan | None = None,
    covers: ImageSource | None = None,
) -> TraceResult:
    """Find the copies that a suspect model was made from.

    Args:
        suspect: a module, a bundle's folder, an ``.onnx`` file, an ``http(s)://`` endpoint, a
            `BlackBox`, or any callable from float images ``(N, C, H, W)`` in ``[0, 1]`` to labels.
        key: the tracing key that the copies were marked with.
        register: who bought which payload. None finds payloads without names.
        bits: length of payloads, if no register says it.
        alpha: accuse if so many matches have at most this probability by chance, in (0, 1).
            With the default, 2^-20, one innocent model in a million is traced to anybody.
        plan: what else the suspect is asked, and how fast (`doorward.watermark.verifying`).
        covers: images of the suspect's task, for the plan's cover questions.

    Returns:
        The payloads and buyers found, or none.

    Raises:
        InvalidInput: register, bits or alpha do not fit the key, or no answers could satisfy
            alpha; said before the suspect is asked. Or the suspect takes other images.
        ModelUnsuitable: the suspect has fewer classes, or answers nonsense.
        MissingData, BadFile, UnsafeFile, EndpointFailed: the suspect cannot be opened or asked.

    Adi et al. (2018) verify one mark, and its labels carry no message. Random code words for
    copies are those of digital fingerprinting (Boneh and Shaw 1998); that they are labels of
    keyed triggers, and the p-value over all payloads, is ours. Codes made for large collusions
    (Tardos 2003) are not built: few colluders are named, of many perhaps none.
    """
    code = TracingCode(key, bits) if register is None else register.code(key)
    _check_rule(code, alpha)
    box = open_black_box(suspect)
    answers = ask(key, box, plan=plan, covers=covers)
    return trace_answers(answers, code, register, alpha=alpha, suspect=describe(box))


def trace_answers(
    answers: Tensor,
    code: TracingCode,
    register: Register | None = None,
    *,
    alpha: float = 2.0**-20,
    suspect: dict[str, Any] | None = None,
) -> TraceResult:
    """The same for answers that were collected already.

    Args:
        answers: int64 ``(n,)``: the suspect's labels for the key's triggers, in their order;
            `NO_ANSWER` where it gave none: such a trigger is left out, which keeps the test
            exact, as a suspect sees images and never labels.
        code: the tracing key and the length of payloads.
        register: who bought which payload.
        alpha: as `trace`.
        suspect: what to note about the suspect.

    Raises:
        InvalidInput: as `trace`, or the answers are no labels.
    """
    _check_rule(code, alpha)
    log2_alpha = math.log2(alpha)

    def named(one: Decoded) -> Found:
        return Found(
            payload=one.payload,
            buyer=None if register is None else register.buyer_of(one.payload),
            matches=one.matches,
            tested=one.tested,
            runner_up=one.runner_up,
            log2_p=one.log2_p,
            confidence=one.confidence,
        )

    best = code.decode(answers)
    found: list[Found] = []
    open_ones = torch.ones(len(answers), dtype=torch.bool)
    one = best
    while one.log2_p <= log2_alpha and len(found) < MOST:
        found.append(named(one))
        open_ones &= answers != code.encode(one.payload)
        if code.blocks > 1:
            break
        one = code.decode(answers, open_ones)
    return TraceResult(
        found=tuple(found),
        best=named(best),
        n=code.key.n,
        classes=code.key.classes,
        bits=code.bits,
        needed=code.needed(log2_alpha) or code.key.n,
        log2_alpha=log2_alpha,
        unanswered=int((answers < 0).sum()),
        traced_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        suspect=suspect,
    )


def _check_rule(code: TracingCode, alpha: float) -> None:
    if not 0 < alpha < 1:
        raise InvalidInput(f"alpha is {alpha}", why="a level lies between 0 and 1")
    if code.needed(math.log2(alpha)) is None:
        least = code.bits - code.key.n * math.log2(code.key.classes)
        raise InvalidInput(
            "the rule can never be met",
            why=f"a match of all {code.key.n} triggers, for one of 2^{code.bits} payloads, has a "
            f"probability of 2^{least:.4g}, which is above 2^{math.log2(alpha):.4g}",
            remedy="choose a larger alpha, or use a key with more triggers",
        )
