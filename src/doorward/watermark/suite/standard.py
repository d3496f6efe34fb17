"""The attacks of the literature, with their constants, as one list.

>>> [attack.label for attack in standard_attacks(epochs=5) if attack.method == "overwriting"]
['overwriting']
>>> len(standard_attacks(families=("pruning",)))
5
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from doorward.data import Augment
from doorward.errors import UnknownName
from doorward.watermark.suite.attack import Attack

__all__ = ["FAMILIES", "RATES", "standard_attacks"]

RATES = (1e-4, 1e-3, 1e-2, 5e-2)
"""Learning rates of the fine-tuning attacks. The paper's is 1e-3; at 1e-2 others found its mark
gone."""

FAMILIES = (
    "fine-tuning",
    "pruning",
    "quantisation",
    "unlearning",
    "overwriting",
    "transfer",
    "distillation",
    "extraction",
)


def standard_attacks(
    *,
    families: Sequence[str] = FAMILIES,
    epochs: float = 20.0,
    rates: Sequence[float] = RATES,
    shares: Sequence[float] = (1.0,),
    augment: Augment | None = None,
    budget: int | None = None,
    mask_steps: int = 2000,
    batchnorm: Literal["train", "frozen"] = "train",
) -> list[Attack]:
    """The table of Adi et al. and of the work after it.

    Args:
        families: which of `FAMILIES`.
        epochs: of every fine-tuning (the paper's code: 20); extraction, distillation and
            overwriting train as long as the thief's recipe says.
        rates: learning rates of FTLL, FTAL, RTLL, RTAL.
        shares: of the thief's images, for FTAL.
        augment: of the thief's images in fine-tuning; None for none.
        budget: queries of the extraction attacks; None means the whole pool.
        mask_steps: steps in which ANP learns its masks.
        batchnorm: in FTLL, FTAL, RTLL, RTAL: ``"train"`` lets the statistics of BatchNorm drift to
            the thief's images, even where all weights but the head are frozen, as in the code of
            Adi et al.; ``"frozen"`` does not.

    Raises:
        UnknownName: a family that does not exist.
    """
    for family in families:
        if family not in FAMILIES:
            raise UnknownName.of("family of attacks", family, FAMILIES)
    tuned: dict[str, Any] = {"epochs": epochs, "batch_size": 100}
    if augment is not None:
        tuned["augment"] = augment.to_dict()
    lists = {
        "fine-tuning": _fine_tuning(tuned, rates, shares, still=batchnorm == "frozen"),
        "pruning": _pruning(tuned),
        "quantisation": [
            Attack(method="quantisation", label="int8 weights"),
            Attack(
                method="quantisation",
                parameters={"activations": True},
                label="int8 weights and activations",
            ),
        ],
        "unlearning": [
            Attack(method="anp", parameters={"iterations": mask_steps}, label="ANP"),
            Attack(method="nad", parameters=_some(tuned, "epochs", "augment"), label="NAD"),
        ],
        "overwriting": [Attack(method="overwriting", label="overwriting")],
        "transfer": [Attack(method="transfer", label="transfer (old head)")],
        "distillation": [Attack(method="distillation", label="distillation T=3")],
        "extraction": [
            Attack(
                method="extraction",
                parameters={"answers": answers, "budget": budget},
                label=f"extraction ({answers})",
            )
            for answers in ("soft", "label")
        ],
    }
    return [attack for family in FAMILIES if family in families for attack in lists[family]]


def _fine_tuning(
    tuned: dict[str, Any], rates: Sequence[float], shares: Sequence[float], *, still: bool
) -> list[Attack]:
    attacks = []
    kept = {"batchnorm": "frozen"} if still else {}
    for name, layers, reinit in (
        ("FTLL", "last", False),
        ("FTAL", "all", False),
        ("RTLL", "last", True),
        ("RTAL", "all", True),
    ):
        for rate in rates:
            for share in shares if name == "FTAL" else (1.0,):
                part = "" if share == 1 else f", {share:.0%} of the data"
                part += ", BatchNorm still" if still else ""
                attacks.append(
                    Attack(
                        method="fine-tuning",
                        parameters={
                            **tuned,
                            **kept,
                            "layers": layers,
                            "reinit_head": reinit,
                            "lr": rate,
                        },
                        share=share,
                        label=f"{name} {rate:g}{part}",
                    )
                )
    refit = {**tuned, "lr": 0.1, "schedule": "onecycle"}
    return [*attacks, Attack(method="fine-tuning", parameters=refit, label="REFIT-like 0.1")]


def _pruning(tuned: dict[str, Any]) -> list[Attack]:
    plain = [
        Attack(
            method="magnitude-pruning", parameters={"share": share}, label=f"pruning {share:.0%}"
        )
        for share in (0.5, 0.7, 0.9)
    ]
    again = {**tuned, "share": 0.9, "lr": 0.01}
    return [
        *plain,
        Attack(method="magnitude-pruning", parameters=again, label="pruning 90 % + fine-tuning"),
        Attack(method="fine-pruning", parameters={**tuned, "lr": 0.01}, label="fine-pruning"),
    ]


def _some(fields: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: fields[name] for name in names if name in fields}
