"""The process of one cell: ``python -m doorward.benchmarks.worker REQUEST ANSWER``.

Started by the ``local`` engine, one process per cell. It reads the cell from the file REQUEST,
measures it, and writes the row to the file ANSWER. It ends at once when its standard input does:
its parent is gone, and nobody would read the answer.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path

from doorward.benchmarks.engines import measure_as_json
from doorward.benchmarks.study import Cell
from doorward.files import write_text

__all__ = ["main"]


def main(request: str, answer: str) -> None:
    """Measure the cell in file `request`; write the row to file `answer`."""
    threading.Thread(target=_die_with_parent, daemon=True).start()
    content = json.loads(Path(request).read_text(encoding="utf-8"))
    name, module, file = content["place"]
    cell = Cell.from_dict(content["cell"])
    write_text(answer, measure_as_json(cell, (name, module, file), "local"))


def _die_with_parent() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
