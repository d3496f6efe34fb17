"""Chapter six: the victim is scanned, and so is the innocent model.

::

    part = tell(story)      # needs story.shelf["poisoned"], ["backdoor"] and ["clean"]
"""

from __future__ import annotations

from typing import Any

from doorward.data import ImageData
from doorward.demo.story import Part, Story
from doorward.reporting import Bars, Section, Text, Verdict, scan_section
from doorward.scanning import DEFAULT, Scanner, ScanResult, scan, scanner

__all__ = ["QUICK", "SHORT", "demo_scanner", "received", "tell"]

SHORT: dict[str, Any] = {
    "sizes": (3, 5),
    "rounds": 2,
    "restarts": 1,
    "look_steps": 12,
    "look_images": 4,
    "probes": 32,
    "steps": 25,
    "images": 16,
}
"""The scanner's parameters here: fewer sizes and steps, since four scans may take half a minute."""

QUICK: dict[str, Any] = {
    **SHORT,
    "sizes": (3,),
    "rules": ("fixed",),
    "levels": (0.9,),
    "rounds": 1,
    "look_steps": 1,
    "look_images": 2,
    "probes": 2,
    "steps": 1,
    "images": 2,
}
"""Those of a quick demonstration, where there is nothing to find."""

_IMAGES = 600


def tell(story: Story) -> Part:
    """Scan the poisoned and the plain model, as somebody would who knows neither."""
    target: int = story.shelf["backdoor"].rule.target
    clean, looker = received(story), demo_scanner(story)
    options: dict[str, Any] = {"seed": story.seed, "device": story.device}
    victim, triggers = scan(story.shelf["poisoned"], clean, looker, **options)
    story.say(f"      the victim: {_told(victim)}, in {victim.seconds:.0f} s")
    innocent, _ = scan(story.shelf["clean"], clean, looker, **options)
    story.say(f"      the plain model: {_told(innocent)}, in {innocent.seconds:.0f} s")
    found = victim.accused[:1] == [target]
    shown = scan_section(victim, triggers, clean, seed=story.seed)
    section = Section(
        "Does somebody else's model have a backdoor?",
        (
            Text(
                "Somebody receives the model of the chapter before. They know nothing of the "
                f"attack, and have {len(clean)} clean images. For every digit, the scanner "
                "searches the patches that turn images of all other digits into it, without "
                "knowing their size or place. The plain model is scanned in the same way: a scan "
                "that accuses it would be worth nothing. (The scans here are shortened.)"
            ),
            *shown.blocks,
            Text("**The plain model**, under the same scan:"),
            *_innocent(innocent),
        ),
        summary=shown.summary,
    )
    return Part(
        key="scanning",
        summary={
            "attacked_class_found": found,
            "clean_model_accused": innocent.found,
            "seconds": round(victim.seconds + innocent.seconds, 1),
        },
        section=section,
        promises={
            "the scan names the attacked class": found,
            "the scan accuses no other class": set(victim.accused) <= {target},
            "the innocent model is not accused": not innocent.found,
        },
    )


def received(story: Story) -> ImageData:
    """The clean images of whoever received the model."""
    return story.train.sample(min(_IMAGES, len(story.train)), seed=story.seed)


def demo_scanner(story: Story) -> Scanner:
    """The default scanner, with less to do than by default."""
    return scanner(DEFAULT, **(QUICK if story.quick else SHORT))


def _told(result: ScanResult) -> str:
    names = ", ".join(result.classes[target] for target in result.accused)
    return f"class {names} accused" if names else "nothing found"


def _innocent(result: ScanResult) -> list[Any]:
    values = {result.classes[finding.target]: finding.statistic for finding in result.findings}
    return [
        Verdict(
            "Is a class of the plain model accused?",
            result.found,
            good=not result.found,
            detail=f"largest statistic {max(values.values()):.3g}, alarm {result.alarm:.3g}",
        ),
        Bars(
            values,
            x="statistic (the larger, the more suspicious)",
            line=result.alarm,
            line_label="alarm",
            marked=tuple(result.classes[target] for target in result.accused),
            mark="accused",
            caption="What the scanner says of each class of the plain model",
        ),
    ]
