"""Reports: results in, one HTML file out that opens anywhere, offline, for anyone.

A report is a title and sections; a section is a title and small typed blocks. Nothing is fetched
when it is opened, no script runs in it, it follows the reader's light or dark theme, reads on a
phone, prints, and every picture has a description for those who cannot see it.

>>> import tempfile, pathlib
>>> report = Report("One model, marked", "What was done, and whether it can be proven.")
>>> _ = report.section(
...     "Ownership",
...     Verdict("Does the owner's key open this model?", True, detail="p = 2⁻²¹⁶"),
...     Numbers(Number("Accuracy", "98.6 %"), Number("Matches", "100 of 100")),
...     Curve({"loss": ([1, 2, 3], [2.1, 0.7, 0.2])}, x="epoch", y="loss"),
...     Code("doorward demo --out demo-report", caption="How to repeat it"),
... )
>>> path = report.write(pathlib.Path(tempfile.mkdtemp()) / "index.html")
>>> "98.6 %" in path.read_text(encoding="utf-8")
True

Blocks: `Text`, `Numbers`, `Table`, `Picture`, `Curve`, `Dots`, `Bars`, `Scatter`, `Verdict`,
`Code`, `Note`. `environment_table` and `training_curves` make blocks from the JSON of results;
`scan_section`, `purge_section`, `distance_section`, `lock_section`, `deal_section` whole sections.
"""

from doorward.reporting.blocks import (
    Block,
    Code,
    Note,
    Number,
    Numbers,
    Picture,
    Table,
    Text,
    Verdict,
)
from doorward.reporting.builders import environment_table, training_curves
from doorward.reporting.hardening import distance_section
from doorward.reporting.honeypot import honeypot_section
from doorward.reporting.numerals import format_value, percent, power_of_two
from doorward.reporting.plots import Bars, Curve, Dots, Scatter
from doorward.reporting.removal import purge_section
from doorward.reporting.report import Report, Section
from doorward.reporting.scanning import scan_section
from doorward.reporting.trading import deal_section, lock_section

__all__ = [
    "Bars",
    "Block",
    "Code",
    "Curve",
    "Dots",
    "Note",
    "Number",
    "Numbers",
    "Picture",
    "Report",
    "Scatter",
    "Section",
    "Table",
    "Text",
    "Verdict",
    "deal_section",
    "distance_section",
    "environment_table",
    "format_value",
    "honeypot_section",
    "lock_section",
    "percent",
    "power_of_two",
    "purge_section",
    "scan_section",
    "training_curves",
]
