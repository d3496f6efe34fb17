"""An exponential moving average of a model's weights and BatchNorm statistics.

>>> import torch
>>> from torch import nn
>>> model = nn.Linear(1, 1, bias=False)
>>> _ = nn.init.zeros_(model.weight)
>>> average = Ema(model, decay=0.5)
>>> _ = nn.init.ones_(model.weight)
>>> average.update(step=1000)
>>> with average.applied():
...     model.weight.item()
0.5
>>> model.weight.item()
1.0
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

__all__ = ["Ema"]


class Ema:
    """The average of all parameters and floating-point buffers; other buffers are copied.

    The decay of step ``t`` is ``min(decay, (1 + t) / (10 + t))``, so that the first, random
    weights are forgotten quickly and short runs are not held back.

    Args:
        model: what is averaged; already on its device and in its memory format.
        decay: weight of the past, in (0, 1); about ``1 / (1 - decay)`` steps are averaged.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self._live = {name: tensor.detach() for name, tensor in model.state_dict().items()}
        self._average = {name: tensor.clone() for name, tensor in self._live.items()}
        self._floating = [name for name, t in self._live.items() if t.is_floating_point()]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after optimiser step `step` (0-based)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        get_ema_multi_avg_fn(decay)(  # type: ignore[no-untyped-call]
            [self._average[name] for name in self._floating],
            [self._live[name] for name in self._floating],
            None,
        )
        for name, tensor in self._live.items():
            if not tensor.is_floating_point():
                self._average[name].copy_(tensor)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Let the model carry the averages inside the block, and its own weights after it."""
        own = {name: tensor.clone() for name, tensor in self._live.items()}
        self.apply()
        try:
            yield
        finally:
            _copy(own, self._live)

    def apply(self) -> None:
        """Replace the model's weights by the averages, for good."""
        _copy(self._average, self._live)

    def state_dict(self) -> dict[str, Tensor]:
        """The averages by name."""
        return dict(self._average)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state_dict` gave."""
        _copy(state, self._average)


@torch.no_grad()
def _copy(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
    for name, tensor in target.items():
        tensor.copy_(source[name])
