r"""What comes out of ``doorward trade lock``: the secrets' folder, the figures in words, a report.

::

    store_secrets(made, folder)          # masks.bank, backdoor/, lock.json
    print("\n".join(figures(made.result)))
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from doorward.data import ImageData
    from doorward.trading import Lock, LockResult

__all__ = ["figures", "require_free_folder", "store_secrets", "write_report"]


def require_free_folder(folder: Path, out: Path) -> None:
    """Refuse, before the training, a place for the secrets where something else is."""
    from doorward.errors import InvalidInput

    if folder.resolve() == out.resolve():
        raise InvalidInput(
            f"{folder} cannot hold both the trial and its secrets",
            why="the trial is given away",
            remedy="choose another --secret",
        )
    known = (folder / "masks.bank").is_file()
    if folder.is_file() or (folder.is_dir() and not known and any(folder.iterdir())):
        raise InvalidInput(
            f"{folder} exists and is not a lock's folder",
            why="saving would replace it",
            remedy="choose another --secret",
        )


def store_secrets(made: Lock, folder: Path) -> None:
    """Write masks, backdoor and record to a folder that only its owner can read."""
    from doorward.files import atomic_folder, write_json

    with atomic_folder(folder) as place:
        made.bank.save(place / "masks.bank")
        made.backdoor.save(place / "backdoor")
        write_json(place / "lock.json", made.result.to_dict(), private=True)
    folder.chmod(0o700)


def figures(result: LockResult) -> list[str]:
    """What was measured, in words."""
    outcome, strength = result.outcome, result.strength
    low, high = outcome.unlocked_interval
    folds = "folds into the weights" if result.foldable else "stays as small modules"
    return [
        f"Trial: accuracy {outcome.trial_accuracy:.2%}, the trigger works on "
        f"{outcome.trial_attack_success:.2%} of {outcome.attack_images} images",
        f"Unlocked: accuracy {outcome.unlocked_accuracy:.2%}, the trigger works on "
        f"{outcome.unlocked_attack_success:.2%} (95 % interval {low:.2%} to {high:.2%}); "
        f"{outcome.restored_accuracy:.2%} of triggered images are right",
        f"Trigger: at most {255 * strength.linf:.0f} grey levels, SSIM {strength.ssim:.3f}",
        f"Key: {result.values} values at {len(result.sites)} sites, {result.key_bytes} bytes; it "
        f"{folds}",
    ]


def write_report(made: Lock, test: ImageData, path: Path) -> None:
    """One HTML page about the lock; it shows the trigger, and is the seller's own."""
    from doorward.records import environment
    from doorward.reporting import Report, environment_table, lock_section

    report = Report(
        "A locked trial",
        "The trial obeys a trigger until its key is applied. This page shows the trigger: keep it "
        "with the secrets.",
    )
    report.add(lock_section(made, test, seed=0))
    report.section("How it was measured", environment_table(environment()))
    report.write(path)
