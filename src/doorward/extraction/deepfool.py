"""How far images lie from a model's decision boundary, by DeepFool.

>>> import torch
>>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(2, 2, bias=False))
>>> _ = model[1].weight.data.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
>>> found = distances(model, torch.tensor([[[[0.75, 0.25]]]]))     # the boundary is the diagonal
>>> round(found.item(), 3)
0.354

Moosavi-Dezfooli, Fawzi, Frossard (CVPR 2016), "DeepFool: a simple and accurate method to fool deep
neural networks". Reproduced: the multi-class L2 form over the ten most probable classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from doorward.errors import InvalidInput
from doorward.models import evaluating

__all__ = ["distances"]

_OVERSHOOT = 0.02


def distances(
    model: nn.Module, images: Tensor, *, steps: int = 10, classes: int = 10, batch_size: int = 256
) -> Tensor:
    """L2 norm of the smallest perturbation that DeepFool finds to change each image's class.

    Args:
        model: images to logits; evaluated in evaluation mode.
        images: float ``(N, C, H, W)`` in ``[0, 1]`` (perturbed images may leave it, as in the
            authors' code).
        steps: linear approximations at most.
        classes: how many of the most probable classes are tried.
        batch_size: images worked on at a time.

    Returns:
        float32 ``(N,)`` on the CPU; images whose class does not change within `steps` get the norm
        they have come to.

    Raises:
        InvalidInput: `steps` is not positive, or fewer than two classes are tried.
    """
    if steps < 1 or classes < 2:
        raise InvalidInput(f"steps={steps}, classes={classes}", why="1 step and 2 classes at least")
    device = next((weight.device for weight in model.parameters()), images.device)
    with evaluating(model):
        parts = torch.split(images, batch_size)
        found = [_distances(model, part.to(device), steps, classes) for part in parts]
    return torch.cat(found).cpu()


def _distances(model: nn.Module, images: Tensor, steps: int, classes: int) -> Tensor:
    moved, open_rows = images.clone(), torch.arange(len(images), device=images.device)
    order: Tensor | None = None
    for _ in range(steps):
        point = moved[open_rows].requires_grad_(True)
        with torch.enable_grad():
            logits = model(point).float()
            if order is None:
                order = logits.detach().topk(min(classes, logits.shape[1]), dim=1).indices
            ranked = logits.gather(1, order[open_rows])
            gaps = ranked[:, 1:] - ranked[:, :1]
            slopes = torch.stack(
                [
                    torch.autograd.grad(gap.sum(), point, retain_graph=True)[0]
                    for gap in gaps.unbind(1)
                ],
                dim=1,
            )
        norms = slopes.flatten(2).norm(dim=2).clamp_min(1e-12)
        far, nearest = (gaps.detach().abs() / norms).min(1)
        rows = torch.arange(len(point), device=images.device)
        # A hair further than the boundary, or an image would stop on it.
        step = (far + 1e-4) / norms[rows, nearest]
        moved[open_rows] += step.view(-1, 1, 1, 1) * slopes[rows, nearest]
        with torch.no_grad():
            beyond = images[open_rows] + (1 + _OVERSHOOT) * (moved - images)[open_rows]
            kept = model(beyond).argmax(1) == order[open_rows, 0]
        open_rows = open_rows[kept]
        if not len(open_rows):
            break
    found: Tensor = (moved - images).flatten(1).norm(dim=1)
    return found
