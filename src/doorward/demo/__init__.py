"""The demonstration: the life of a model, chapter by chapter, on real images, in minutes.

::

    from doorward.demo import run_demo
    outcome = run_demo("demo-report")       # writes index.html, summary.json and what they tell of
    outcome.summary["watermark"]["p_value"]

A chapter is a function from the story so far to its part of the report; `CHAPTERS` is their order.
A new system adds a module here and a line there.
"""

from doorward.demo.running import CHAPTERS, Outcome, run_demo
from doorward.demo.story import Chapter, Part, Story

__all__ = ["CHAPTERS", "Chapter", "Outcome", "Part", "Story", "run_demo"]
