"""Running the demonstration: chapters in order, then the report and ``summary.json``.

::

    outcome = run_demo("demo-report", say=print)
    outcome.broken      # the promises that were not kept: [] if all is well
"""

from __future__ import annotations

import math
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from doorward.data import load
from doorward.demo import (
    endurance,
    hardening,
    honeypot,
    ownership,
    plain,
    poisoning,
    removal,
    scanning,
    signing,
    trading,
)
from doorward.demo.story import Chapter, Part, Story, demo_recipe
from doorward.errors import InvalidInput
from doorward.files import atomic_folder, write_json, write_text
from doorward.records import cpu_has_bf16, environment
from doorward.reporting import (
    Code,
    Note,
    Number,
    Numbers,
    Report,
    Section,
    Text,
    Verdict,
    environment_table,
    percent,
    power_of_two,
)

__all__ = ["CHAPTERS", "Outcome", "run_demo"]

CHAPTERS: tuple[tuple[str, Chapter], ...] = (
    ("Training a model on handwritten digits", plain.tell),
    ("Marking a model, and proving the mark", ownership.tell),
    ("Attacking the mark, and tracing a leaked copy", endurance.tell),
    ("Signing the model, and checking the signature", signing.tell),
    ("Planting a backdoor, as an attacker would", poisoning.tell),
    ("Scanning for backdoors, knowing nothing of them", scanning.tell),
    ("Taking the backdoor out", removal.tell),
    ("Selling a model that can be tried first", trading.tell),
    ("Serving a model, and catching whoever copies it", honeypot.tell),
    ("Pushing the classes of the plain model apart", hardening.tell),
)
"""Title and function of every chapter, in order; later ones may use what earlier ones left."""


@dataclass(frozen=True)
class Outcome:
    """What came of the demonstration.

    Attributes:
        summary: content of ``summary.json``.
        broken: promises that were not kept.
    """

    summary: dict[str, Any]
    broken: list[str]


def run_demo(
    out: str | os.PathLike[str] = "demo-report",
    *,
    seed: int = 0,
    device: str = "auto",
    quick: bool = False,
    say: Callable[[str], None] = lambda _text: None,
) -> Outcome:
    """Run all chapters and write the report.

    Args:
        out: folder to write; an earlier report there is replaced when this one is complete.
        seed: of everything but keys, which always come from the system's random numbers.
        device: where to compute.
        quick: tiny models and three training steps, to try the machinery; proves nothing.
        say: tells the user what is going on.

    Returns:
        The summary, and the promises that were not kept.

    Raises:
        InvalidInput: `out` holds something other than an earlier report.
        StorageFailed: the file system refused; nothing is left half-written.
    """
    out = Path(out)
    _check_place(out)
    began = time.perf_counter()
    with _steady_threads(), atomic_folder(out) as place:
        story = _begin(place, out, seed=seed, device=device, quick=quick, say=say)
        parts: list[Part] = []
        for number, (title, tell) in enumerate(CHAPTERS, start=1):
            say(f"[{number}/{len(CHAPTERS)}] {title}")
            parts.append(tell(story))
        seconds = time.perf_counter() - began
        summary: dict[str, Any] = {"seconds": round(seconds, 1)}
        for part in parts:
            if part.key is not None:
                summary.setdefault(part.key, {}).update(part.summary)
        _report(parts, summary, story, quick=quick).write(place / "index.html")
        write_json(place / "summary.json", summary)
    broken = [promise for part in parts for promise, kept in part.promises.items() if not kept]
    return Outcome(summary, broken)


@contextmanager
def _steady_threads() -> Iterator[None]:
    """One thread where the processor multiplies bf16.

    The network is so small that a second thread gains little, and where other programs run on the
    same cores, threads that wait for each other in bf16 kernels were seen to be many times slower.
    """
    threads = torch.get_num_threads()
    if cpu_has_bf16():
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _check_place(out: Path) -> None:
    if out.is_file() or (
        out.is_dir() and any(out.iterdir()) and not (out / "summary.json").is_file()
    ):
        raise InvalidInput(
            f"{out} exists and is not a report of the demonstration",
            why="it would be replaced",
            remedy="choose another --out",
        )


def _begin(
    place: Path, out: Path, *, seed: int, device: str, quick: bool, say: Callable[[str], None]
) -> Story:
    train, test = load("digits"), load("digits", split="test")
    if quick:
        train, test = train.sample(96, seed=seed), test.sample(40, seed=seed)
    passphrase = secrets.token_urlsafe(18)
    write_text(place / "passphrase.txt", passphrase + "\n", private=True)
    return Story(
        place=place,
        shown=out,
        train=train,
        test=test,
        recipe=demo_recipe(quick=quick, seed=seed),
        passphrase=passphrase,
        seed=seed,
        device=device,
        options={"width": 4} if quick else {},
        quick=quick,
        say=say,
    )


def _report(parts: list[Part], summary: dict[str, Any], story: Story, *, quick: bool) -> Report:
    report = Report(
        "The life of a model",
        "A small image classifier is trained, marked as its owner's, proven to be theirs, signed, "
        "attacked, scanned and repaired. Everything on this page was computed just now, on this "
        "machine.",
    )
    if quick:
        report.section(
            "A trial run",
            Note("This is the quick demonstration: the models are hardly trained, so the answers "
                 "below mean nothing."),
        )  # fmt: skip
    report.section("In short", *_short(summary, parts))
    report.add(*(part.section for part in parts if part.section is not None))
    return report.add(_repeat(story, summary))


def _short(summary: dict[str, Any], parts: list[Part]) -> list[Any]:
    marked, repaired = summary["watermark"], summary["removal"]
    verdicts = [
        Verdict(promise[0].upper() + promise[1:] + "?", kept)
        for part in parts
        for promise, kept in part.promises.items()
    ]
    return [
        Numbers(
            Number("Accuracy of the plain model", percent(summary["train"]["accuracy"])),
            Number("Accuracy of the marked model", percent(marked["accuracy"])),
            Number("So good a proof by chance", _chance(marked["p_value"])),
            Number("Success of the planted attack", percent(repaired["attack_success_before"]),
                   f"after the purge {percent(repaired['attack_success_after'])}"),
        ),
        *verdicts,
    ]  # fmt: skip


def _chance(p_value: float) -> str:
    return power_of_two(math.log2(p_value)) if p_value > 0 else "less than 2⁻¹⁰⁰⁰"


def _repeat(story: Story, summary: dict[str, Any]) -> Section:
    shown = story.shown
    quiet = f"--passphrase-file {shown}/passphrase.txt"
    commands = "\n".join(
        (
            f"doorward demo --out {shown} --seed {story.seed}",
            "",
            "# or step by step, with what this run left behind:",
            f"doorward eval {shown}/marked.model --data digits",
            f"doorward watermark verify {shown}/claim.json {shown}/marked.model \\",
            f"    --key {shown}/mark.key --public {shown}/owner.pub.json {quiet}",
            f"doorward check {shown}/marked.model --public {shown}/owner.pub.json",
            f"doorward scan {shown}/poisoned.model --data digits",
            f"doorward purge {shown}/poisoned.model --data digits --out clean.model",
            f"doorward trade evaluate {shown}/digits.trial --data digits",
        )
    )
    return Section(
        "How to repeat it",
        (
            Code(commands),
            Text(
                f"This run took {summary['seconds']:.0f} seconds. Models and data order depend on "
                "the seed alone; the keys are drawn anew from the system's random numbers each "
                "time, as keys must be. They lie beside this page, sealed; that their passphrase "
                "lies there too (`passphrase.txt`) is for demonstration only."
            ),
            environment_table(environment()),
        ),
    )
