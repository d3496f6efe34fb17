"""What ``doorward poison`` says and shows of a victim.

::

    lines = figures(result, twin)
    before_and_after(test.sample(10, seed=0), backdoor).save("victim.png")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

    from doorward.data import ImageData
    from doorward.poisoning import PoisonResult, TwinResult
    from doorward.triggers import Backdoor

__all__ = ["before_and_after", "figures"]


def figures(result: PoisonResult, twin: TwinResult | None) -> list[str]:
    """What was measured, in words."""
    low, high = result.attack_interval
    before = 0.0 if result.untriggered is None else result.untriggered
    strength, cross = result.strength, result.details.get("cross_accuracy")
    psnr = "" if strength.psnr is None else f", PSNR {strength.psnr:.1f} dB"
    lines = [
        f"Test accuracy {result.accuracy:.2%}",
        f"Attack success {result.attack_success:.2%} of {result.attack_images} triggered images "
        f"(95 % interval {low:.2%} to {high:.2%}); without the trigger {before:.2%} of them get "
        "the attacker's label",
        f"Strength: {strength.changed:.1%} of pixel values change, by at most "
        f"{255 * strength.linf:.0f} grey levels (L2 {strength.l2:.2f}{psnr}, "
        f"SSIM {strength.ssim:.3f})",
    ]
    if twin is not None:
        low, high = twin.attack_interval
        lines.insert(
            2,
            f"Innocent twin: test accuracy {twin.accuracy:.2%}, the trigger sends "
            f"{twin.attack_success:.2%} there all the same (95 % interval {low:.2%} to {high:.2%})",
        )
    if cross is not None:
        lines.append(f"Accuracy under triggers that must not work {cross:.2%}")
    return lines


def before_and_after(images: ImageData, backdoor: Backdoor) -> Image:
    """Images above, the same images with the trigger below."""
    import torch

    from doorward.data import grid

    clean = images.pixels()
    return grid(torch.cat([clean, backdoor.trigger(clean)]), columns=len(images), scale=2)
