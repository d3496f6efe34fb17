"""Where masks go in a model, and banks to begin with.

>>> import torch
>>> from doorward.models import create
>>> model = create("resnet8", classes=10, input_shape=(1, 16, 16), width=4)
>>> images = torch.rand(1, 1, 16, 16)
>>> default_sites(model, "spatial", images)
['body.stage1', 'body.stage2', 'body.stage3']
>>> bank = identity_bank(model, "channel", images)
>>> bank.is_identity, bank.sites[:2], bank.values
(True, ('body.stem.1', 'body.stage1.0.conv1.1'), 84)

Masks of channels go behind every normalisation layer (behind every convolution and linear layer in
networks without BatchNorm): there they fold into weights, and nothing undoes them. A scale directly
*before* a BatchNorm layer would be undone by it, in training and, once its running statistics have
followed, ever after; such a site is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from doorward.errors import InvalidInput, ModelUnsuitable
from doorward.models import evaluating, site
from doorward.models.layers import followers, maskable, stages, trace
from doorward.randomness import Secret
from doorward.trading.masks.bank import MaskBank
from doorward.trading.masks.folding import makers
from doorward.trading.masks.kinds import MASKS, MaskKind

__all__ = [
    "Place",
    "default_sites",
    "identity_bank",
    "keyed_bank",
    "keyed_signs",
    "named_secret",
    "norm_layers",
    "places",
]


class Place(NamedTuple):
    """A site's maps without the batch, and which of their axes are the channels."""

    shape: tuple[int, ...]
    axis: int


def default_sites(model: nn.Module, kind: str, images: Tensor) -> list[str]:
    """Where masks of a kind go if nobody says.

    Masks of channels: all layers that `doorward.models.layers.maskable` finds; orders of channels:
    those of them that fold, or else the convolutions. Masks of elements and positions: the last
    site of each resolution.

    Args:
        model: any module.
        kind: a name in `MASKS`.
        images: (N, C, H, W) on the model's device, to find out what runs; one is enough.

    Raises:
        UnknownName: there is no such kind.
        ModelUnsuitable: nothing can be masked.
    """
    chosen = MASKS[kind]
    if chosen.extent != "channel":
        return stages(model, images, count=4)
    layers = list(maskable(model))
    if chosen.values != "order":
        return layers
    found = [name for name in layers if _folds(model, name, chosen)]
    found = found or [
        name
        for name, layer in model.named_modules()
        if isinstance(layer, _ConvNd) and _folds(model, name, chosen)
    ]
    if not found:
        raise ModelUnsuitable(
            "no layer's channels can be put in another order",
            remedy="use masks that scale, or name sites",
        )
    return found


def places(model: nn.Module, kind: str, sites: Sequence[str], images: Tensor) -> dict[str, Place]:
    """Shape of the maps at every site, as they are when `images` go through the model.

    Raises:
        InvalidInput: no sites, or a scale of channels directly before a BatchNorm layer.
        UnknownName: a site does not exist.
        ModelUnsuitable: a site does not run, or gives no maps.
    """
    if not sites or len(set(sites)) < len(sites):
        raise InvalidInput("the sites to mask must be given, each once")
    known = dict(model.named_modules())
    layers = {name: known[name] if name in known else site(model, name) for name in sites}
    with evaluating(model):
        outputs = {call.name: call.output for call in trace(model, images[:1])}
        undone = followers(model, images[:1]) if MASKS[kind].scales else {}
    found: dict[str, Place] = {}
    for name, layer in layers.items():
        output = outputs.get(name)
        if not isinstance(output, Tensor) or output.ndim not in (2, 3, 4):
            raise ModelUnsuitable(
                f"the site {name!r} gives no feature maps",
                why="it does not run in a forward pass, or gives something else than a tensor",
                remedy="name another site",
            )
        if name in undone and MASKS[kind].values != "sign":
            raise InvalidInput(
                f"a mask at {name!r} would be undone",
                why=f"its output goes into the BatchNorm layer {undone[name]!r}, which divides by "
                "the scale that the mask gives it",
                remedy=f"mask {undone[name]!r} instead",
            )
        last = isinstance(layer, nn.Linear) or type(layer) is nn.LayerNorm or output.ndim == 3
        found[name] = Place(tuple(output.shape[1:]), output.ndim - 2 if last else 0)
    return found


def identity_bank(
    model: nn.Module, kind: str, images: Tensor, sites: Sequence[str] | None = None
) -> MaskBank:
    """A bank that changes nothing (errors as `places`)."""
    chosen = MASKS[kind]
    named = list(sites) if sites is not None else default_sites(model, kind, images)
    masks: dict[str, Tensor] = {}
    for name, place in places(model, kind, named, images).items():
        shape = chosen.shape(*place)
        ones = torch.ones(shape)
        order = chosen.values == "order"
        masks[name] = torch.arange(ones.numel()).view(shape) if order else ones
    return MaskBank(kind, masks)


def keyed_bank(
    model: nn.Module,
    kind: str,
    images: Tensor,
    secret: Secret,
    sites: Sequence[str] | None = None,
) -> MaskBank:
    """Signs or orders of channels that follow from a secret alone (errors as `places`).

    Each site's mask comes from HMAC-SHA256 under a key of its own, so that one site tells nothing
    of another.

    Raises:
        InvalidInput: a kind whose masks are trained.

    >>> model = nn.Sequential(nn.Linear(4, 6), nn.ReLU())
    >>> bank = keyed_bank(model, "sign", torch.rand(1, 4), Secret(bytes(32)), ["0"])
    >>> bank.masks["0"].abs().sum()
    tensor(6.)
    """
    chosen = MASKS[kind]
    if not chosen.keyed:
        raise InvalidInput(f"masks of the kind {kind!r} are trained, not drawn from a key")
    masks = {}
    for name, mask in identity_bank(model, kind, images, sites).masks.items():
        own = secret.derive(f"doorward/masks/{kind}/{name}")
        if chosen.values == "sign":
            masks[name] = keyed_signs(own, mask.numel()).view(mask.shape)
        else:
            tags = [own.mac(i.to_bytes(4, "big")) for i in range(mask.numel())]
            order = sorted(range(len(tags)), key=tags.__getitem__)
            masks[name] = torch.tensor(order).view(mask.shape)
    return MaskBank(kind, masks)


def keyed_signs(secret: Secret, count: int) -> Tensor:
    """Fair signs, float32 (count,), from HMAC-SHA256 over counters.

    >>> keyed_signs(Secret(bytes(32)), 300).unique().tolist()
    [-1.0, 1.0]
    """
    blocks = range(-(-count // 256))
    bits = b"".join(secret.mac(block.to_bytes(4, "big")) for block in blocks)
    signs = [1 - 2 * (bits[i // 8] >> (i % 8) & 1) for i in range(count)]
    return torch.tensor(signs, dtype=torch.float32)


def norm_layers(model: nn.Module) -> dict[str, _BatchNorm]:
    """BatchNorm layers that keep running statistics, by dotted names."""
    return {
        name: layer
        for name, layer in model.named_modules()
        if name and isinstance(layer, _BatchNorm) and layer.running_mean is not None
    }


def named_secret(seed: int) -> Secret:
    """A secret for experiments that must be repeatable; keys to sell come from `Secret.new`."""
    return Secret(hashlib.sha256(f"doorward masks {seed}".encode()).digest())


def _folds(model: nn.Module, name: str, kind: MaskKind) -> bool:
    try:
        makers(model, name, kind)
    except ModelUnsuitable:
        return False
    return True
