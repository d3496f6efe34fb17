"""The sections about a lock and about a deal: what the key withdraws, and who held what when.

made = lock(model, train, recipe, test=test)
report.add(lock_section(made, test), deal_section(deals))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from doorward.reporting.blocks import Block, Note, Number, Numbers, Picture, Table, Verdict
from doorward.reporting.builders import training_curves
from doorward.reporting.numerals import percent
from doorward.reporting.plots import Bars
from doorward.reporting.report import Section

if TYPE_CHECKING:
    from doorward.data import ImageData
    from doorward.trading import Lock
    from doorward.trading.protocol import Deal
    from doorward.triggers import Backdoor

__all__ = ["deal_section", "lock_section"]

_SHOWN, _SIDE = 8, 64  # images, and how many pixels wide each is drawn


def lock_section(
    made: Lock,
    test: ImageData,
    controls: Mapping[str, tuple[float, float]] | None = None,
    *,
    seed: int = 0,
    title: str = "What the trigger does, with and without the key",
) -> Section:
    """A lock, for people: trigger, trial, unlocked model, controls.

    Args:
        made: of `doorward.trading.lock`.
        test: images to show.
        controls: name -> accuracy and attack success of the trial under other keys.
        seed: of which images are shown.
        title: of the section.
    """
    result, outcome, strength = made.result, made.result.outcome, made.result.strength
    low, high = outcome.unlocked_interval
    models = {
        "trial, no key": (outcome.trial_accuracy, outcome.trial_attack_success),
        "unlocked": (outcome.unlocked_accuracy, outcome.unlocked_attack_success),
        **(controls or {}),
    }
    psnr = "" if strength.psnr is None else f", PSNR {strength.psnr:.1f} dB"
    blocks: list[Block] = [
        _pictures(test, made.backdoor, seed),
        Numbers(
            Number("Accuracy of the trial", percent(outcome.trial_accuracy)),
            Number("Accuracy unlocked", percent(outcome.unlocked_accuracy)),
            Number("Trigger works on the trial", percent(outcome.trial_attack_success)),
            Number(
                "Trigger works unlocked",
                percent(outcome.unlocked_attack_success),
                f"{low:.1%} to {high:.1%}",
            ),
            Number("Triggered images right, unlocked", percent(outcome.restored_accuracy)),
            Number("Key", f"{result.key_bytes / 1024:.1f} KiB", f"{result.values} values"),
        ),
        Bars(
            {name: 100 * attack for name, (_, attack) in models.items()},
            x="triggered images that get the target (%)",
            marked=("unlocked",),
            mark="with the key",
            caption=f"Success of the trigger on {outcome.attack_images} test images",
        ),
        Table(
            ["Model", "Accuracy", "Trigger works on"],
            [[name, percent(right), percent(hits)] for name, (right, hits) in models.items()],
            "A key that ruins the accuracy unlocks nothing, whatever the trigger does then",
        ),
        *training_curves(result.fit.history),
        Note(
            f"Masks of the kind {result.masks} at {len(result.sites)} sites; "
            + ("they fold into the weights. " if result.foldable else "they stay as modules. ")
            + f"The trigger changes a pixel by at most {255 * strength.linf:.0f} grey levels "
            f"(SSIM {strength.ssim:.3f}{psnr})."
        ),
    ]
    return Section(
        title,
        tuple(blocks),
        summary="The same weights with and without masks on their feature maps.",
    )


def deal_section(
    deals: Sequence[tuple[str, Deal]], *, title: str = "The deal, step by step"
) -> Section:
    """How a deal went.

    Args:
        deals: what happened, in words, and the state after it; at least one.
        title: of the section.
    """
    last = deals[-1][1]
    currency, settled = last.listing.terms.currency, last.stage.value == "settled"
    rows = [
        [said, deal.stage.value, f"{deal.escrow / 100:.2f}", "yes" if deal.released else "no"]
        for said, deal in deals
    ]
    blocks = (
        Verdict("Is the deal settled?", settled, detail="" if settled else last.stage.value),
        Table(
            ["What happened", "Stage", f"In escrow ({currency})", "Key released"],
            rows,
            "Money and key change hands in one step",
        ),
    )
    return Section(title, blocks, summary="Two strangers, a deposit, a payment, a key.")


def _pictures(test: ImageData, backdoor: Backdoor, seed: int) -> Picture:
    """Images as they are, with the trigger, and the change itself, amplified."""
    import torch

    from doorward.data import grid

    sample = test.sample(min(_SHOWN, len(test)), seed=seed, balanced=False).pixels()
    marked = backdoor.trigger(sample)
    change = 0.5 + (marked - sample) / (2 * float((marked - sample).abs().amax().clamp(min=1e-6)))
    scale = max(1, _SIDE // sample.shape[-1])
    return Picture.of(
        grid(torch.cat([sample, marked, change]), columns=len(sample), scale=scale),
        "Three rows: images, the same images with the trigger, and the change, amplified",
        "As they are; with the trigger; the change, amplified to the full range",
    )
