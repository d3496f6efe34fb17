"""GTSRB: German traffic signs, from the official folders of .ppm files and their .csv tables.

>>> from doorward.data import DATASETS
>>> DATASETS.facts("gtsrb")["classes"]
43
"""

from __future__ import annotations

import csv
from pathlib import Path

from doorward.data.registry import Download, Listing, broken, dataset, locate

__all__ = ["gtsrb"]

_ERDA = "https://sid.erda.dk/public/archives/daaeac0d7ce1152aea9b61d9f1e19370"
_ROOTS = ("gtsrb/GTSRB", "GTSRB")
_LIMITS = ("20", "30", "50", "60", "70", "80")
_CLASSES = (
    *(f"speed limit {limit}" for limit in _LIMITS),
    "end of speed limit 80",
    "speed limit 100",
    "speed limit 120",
    "no overtaking",
    "no overtaking by lorries",
    "right of way at next junction",
    "priority road",
    "give way",
    "stop",
    "no vehicles",
    "no lorries",
    "no entry",
    "danger",
    "bend left",
    "bend right",
    "double bend",
    "uneven road",
    "slippery road",
    "road narrows",
    "road works",
    "traffic lights",
    "pedestrians",
    "children",
    "bicycles",
    "snow or ice",
    "wild animals",
    "end of all limits",
    "turn right ahead",
    "turn left ahead",
    "ahead only",
    "ahead or right",
    "ahead or left",
    "keep right",
    "keep left",
    "roundabout",
    "end of no overtaking",
    "end of no overtaking by lorries",
)


@dataset(
    "gtsrb",
    classes=43,
    image_shape=(3, 32, 32),
    homepage="https://benchmark.ini.rub.de/gtsrb_dataset.html",
    files={
        "train": (
            tuple(
                f"{root}/{part}"
                for root in _ROOTS
                for part in ("Training", "Final_Training/Images")
            ),
        ),
        "test": (
            tuple(f"{root}/Final_Test/Images" for root in _ROOTS),
            tuple(
                f"{place}GT-final_test.csv"
                for place in ("gtsrb/", "gtsrb/GTSRB/", "GTSRB/", "", "GTSRB/Final_Test/Images/")
            ),
        ),
    },
    downloads=(
        Download(
            f"{_ERDA}/GTSRB-Training_fixed.zip",
            "md5:513f3c79a4c5141765e10e952eaa2478",
            "gtsrb",
            unpack=True,
        ),
        Download(
            f"{_ERDA}/GTSRB_Final_Test_Images.zip",
            "md5:c7e4e6327067d32654124b0fe9e82185",
            "gtsrb",
            unpack=True,
        ),
        Download(
            f"{_ERDA}/GTSRB_Final_Test_GT.zip",
            "md5:fe31e9c9270bbcd7b84b7f21a9d9d9e5",
            "gtsrb",
            unpack=True,
        ),
    ),
)
def gtsrb(root: Path, split: str) -> Listing:
    """Photographs of 43 German traffic signs, 15 to 250 pixels wide (Stallkamp et al. 2012).

    Whole pictures (the tables' regions of interest are not cut out), 32x32 unless asked otherwise.
    """
    if split == "train":
        (folder,) = locate("gtsrb", root, split)
        tables = sorted(folder.glob("*/GT-*.csv"))
        if not tables:
            raise broken(folder, "it has no tables CLASS/GT-CLASS.csv")
        rows = [row for table in tables for row in _rows(table, table.parent)]
    else:
        folder, table = locate("gtsrb", root, split)
        rows = _rows(table, folder)
    paths, labels = zip(*rows, strict=True)
    return Listing(paths, labels, _CLASSES, "gtsrb", size=32)


def _rows(table: Path, folder: Path) -> list[tuple[Path, int]]:
    try:
        with open(table, newline="", encoding="utf-8") as stream:
            rows = [
                (folder / row["Filename"], int(row["ClassId"]))
                for row in csv.DictReader(stream, delimiter=";", skipinitialspace=True)
            ]
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise broken(table, "columns Filename and ClassId, separated by ;, are expected") from error
    if not rows:
        raise broken(table, "it lists no images")
    for path, label in rows:
        if not 0 <= label < len(_CLASSES):
            raise broken(table, f"class {label} of {path.name} is not in 0..{len(_CLASSES) - 1}")
        if path.parent != folder:
            raise broken(table, f"{path.name} lies outside {folder}")
    return rows
