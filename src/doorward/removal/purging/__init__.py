"""Purging: look, unlearn what is found, finish, look again, within a budget of accuracy.

    model, result = purge(suspect, clean, budget_accuracy=1.0)
    result.ended                      # "clean", "nothing found", "rounds" or "stuck"
    result.accuracy_after, result.success_after
    for step in result.steps:         # everything that was tried, and why it was kept or not
        step.method, step.accuracy, step.accepted, step.why, step.seconds

The model that comes back is never worse on held-out clean images than the budget allows: a step
that costs more is undone. A clean model is left alone, unless `always_finish` asks otherwise.
"""

from doorward.removal.purging.results import PurgeResult, Round, Step
from doorward.removal.purging.running import purge

__all__ = ["PurgeResult", "Round", "Step", "purge"]
