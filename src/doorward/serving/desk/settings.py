"""What a desk is willing to do: currency, sizes, rates.

>>> DeskSettings(currency="EUR").max_trial_bytes >> 20
2048
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from doorward.records import STRICT, Record

__all__ = ["DeskSettings"]

Bytes = Annotated[int, Field(ge=1, le=2**40)]
PerMinute = Annotated[int, Field(ge=1, le=10**6)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DeskSettings(Record):
    """Limits of one desk.

    Attributes:
        currency: of all prices; three capital letters.
        max_trial_bytes: largest trial bundle.
        max_key_bytes: largest sealed or opened key.
        max_json_bytes: largest JSON body.
        requests_per_minute: of one identity, or of one address without a signature.
        open_deals: how many unfinished deals a seller may have.
        measure: command that counts again in a dispute (see `doorward.serving.desk.measuring`);
            empty: none, and then disputes that hang on a count are not taken.
        measure_seconds: time after which it is stopped.
    """

    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "EUR"
    max_trial_bytes: Bytes = 2 * 2**30
    max_key_bytes: Bytes = 64 * 2**20
    max_json_bytes: Bytes = 2**20
    requests_per_minute: PerMinute = 120
    open_deals: Annotated[int, Field(ge=1)] = 1000
    measure: tuple[str, ...] = ()
    measure_seconds: Annotated[int, Field(ge=1, le=86400)] = 3600
