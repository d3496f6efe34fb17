"""Numbers as people read them: few digits, thin spaces, powers of two for tiny probabilities.

>>> format_value(0.123456), format_value(50000), format_value(True)
('0.1235', '50\u202f000', 'yes')
>>> percent(0.98642), power_of_two(-216.3)
('98.6 %', '2⁻²¹⁶')
"""

from __future__ import annotations

import math
import numbers
import re
from typing import Any

__all__ = ["format_value", "percent", "power_of_two", "printable"]

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_SUPERSCRIPT = str.maketrans("-0123456789.", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹·")


def format_value(value: Any, digits: int = 4) -> str:
    """One table cell as text.

    Args:
        value: a string (kept), a truth value (yes/no), None (a dash) or any real number.
        digits: significant digits of a fraction; at least 1.

    >>> [format_value(v) for v in (3.0, 1234567.8, 1e-9, float("nan"), "ResNet-8")]
    ['3', '1\u202f234\u202f568', '1e-09', 'not a number', 'ResNet-8']
    """
    if value is None:
        return "\u2013"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, numbers.Real):
        return str(value)
    number = float(value)
    if math.isnan(number):
        return "not a number"
    if math.isinf(number):
        return "∞" if number > 0 else "\u2212∞"
    if isinstance(value, numbers.Integral) or abs(number) >= 10**digits:
        return _grouped(round(number))
    return f"{number:.{digits}g}"


def percent(share: float, decimals: int = 1) -> str:
    """A share in ``[0, 1]`` as a percentage, never rounded up to 100 or down to 0.

    >>> percent(0.99999), percent(1.0), percent(0.00001), percent(0.5, 0)
    ('99.9 %', '100.0 %', '0.1 %', '50 %')
    """
    step = 10.0**-decimals
    value = round(100 * share, decimals)
    # 99.99 % of a claim is not all of it: the ends of the scale are kept for exact values.
    if value >= 100 and share < 1:
        value = 100 - step
    if value <= 0 and share > 0:
        value = step
    return f"{value:.{decimals}f} %"


def power_of_two(log2: float) -> str:
    """``2**log2`` written as a power, for p-values far below what a float can hold.

    >>> power_of_two(-64), power_of_two(-0.5), power_of_two(0)
    ('2⁻⁶⁴', '2⁻⁰·⁵', '1')
    """
    if log2 == 0:
        return "1"
    if math.isinf(log2):
        return "0" if log2 < 0 else "∞"
    # Past 2⁻¹⁰ a fraction of the exponent tells nobody anything.
    text = f"{log2:.1f}".removesuffix(".0") if abs(log2) < 10 else f"{log2:.0f}"
    return "2" + text.translate(_SUPERSCRIPT)


def printable(text: str) -> str:
    """A text without control characters and lone surrogates, which no page can hold.

    Names of files and classes may contain anything.

    >>> printable("a" + chr(0) + "b" + chr(0xD800))
    'ab?'
    """
    return _CONTROL.sub("", text).encode("utf-8", "replace").decode("utf-8")


def _grouped(number: int) -> str:
    # A thin space marks thousands in no country's way in particular; four digits need none.
    return str(number) if abs(number) < 10_000 else f"{number:,}".replace(",", "\u202f")
