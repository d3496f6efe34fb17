"""A model under a mask: every neuron times a number that can be trained, or disturbed.

>>> from doorward.models import create
>>> model = create("resnet8", classes=10, input_shape=(1, 16, 16), width=4)
>>> masked = NeuronMasks(model)
>>> len(masked.names), sum(len(mask) for mask in masked.masks)
(9, 84)

The neurons are the channels of BatchNorm layers (see `layers.maskable`); their scale is multiplied
by the mask. Adversarial neuron pruning and reconstructive neuron pruning both search for one.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from doorward.models.layers import maskable

__all__ = ["NeuronMasks", "prune_neurons"]

Noise = Mapping[str, tuple[Tensor, Tensor]]


class NeuronMasks(nn.Module):
    """A frozen model whose neurons are scaled by trainable masks, all ones at first.

    Args:
        model: frozen here; its BatchNorm statistics still follow in training mode.

    Attributes:
        names: of the masked layers.
        masks: one vector per layer, (neurons,).

    Raises:
        ModelUnsuitable: there is nothing to mask.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        layers = maskable(model)
        self.model = model.requires_grad_(False)
        self.names = list(layers)
        self._weights = {name: _of(layer, "weight") for name, layer in layers.items()}
        self._biases = {name: getattr(layer, "bias", None) for name, layer in layers.items()}
        self.masks = nn.ParameterList(
            nn.Parameter(weight.new_ones(len(weight))) for weight in self._weights.values()
        )

    def forward(self, images: Tensor, noise: Noise | None = None) -> Tensor:
        """Logits under the masks.

        Args:
            images: (N, C, H, W) in [0, 1].
            noise: by layer, relative disturbances (neurons,) of weights and of biases: a weight w
                becomes w (mask + noise), a bias b becomes b (1 + noise).
        """
        changed: dict[str, Tensor] = {}
        for name, mask in zip(self.names, self.masks, strict=True):
            weight, bias = self._weights[name], self._biases[name]
            if noise is not None:
                mask = mask + noise[name][0]
                if bias is not None:
                    changed[f"{name}.bias"] = bias * (1 + noise[name][1])
            changed[f"{name}.weight"] = weight * _along(mask, weight)
        logits: Tensor = functional_call(self.model, changed, (images,))
        return logits

    @torch.no_grad()
    def clamp(self) -> None:
        """Keep all masks within [0, 1]."""
        for mask in self.masks:
            mask.clamp_(0, 1)

    def scores(self) -> dict[str, Tensor]:
        """The masks by layer, detached."""
        return {
            name: mask.detach().clone() for name, mask in zip(self.names, self.masks, strict=True)
        }


@torch.no_grad()
def prune_neurons(model: nn.Module, scores: Mapping[str, Tensor], threshold: float) -> int:
    """Zero the weights (not the biases) of all neurons whose score is at most `threshold`.

    Returns:
        How many neurons these are.
    """
    count = 0
    for name, score in scores.items():
        weight = _of(model.get_submodule(name), "weight")
        dead = (score <= threshold).to(weight.device)
        weight[dead] = 0
        count += int(dead.sum())
    return count


def _of(layer: nn.Module, name: str) -> Tensor:
    tensor: Tensor = getattr(layer, name)
    return tensor


def _along(vector: Tensor, weight: Tensor) -> Tensor:
    return vector.view(-1, *[1] * (weight.ndim - 1))
