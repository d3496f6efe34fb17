"""The victim as the thief meets it: every question counted, no question asked twice.

>>> import torch
>>> from doorward.models import CallableBox
>>> box = CallableBox(lambda images: images.flatten(1)[:, :3])
>>> victim = Victim(box, "label", budget=3)
>>> images = torch.rand(2, 1, 4, 4)
>>> victim.ask(images).shape, victim.spent
(torch.Size([2]), 2)
>>> victim.ask(images).shape, victim.spent, victim.left    # known already: costs nothing
(torch.Size([2]), 2, 1)
>>> victim.ask(torch.rand(2, 1, 4, 4))
Traceback (most recent call last):
doorward.errors.InvalidInput: 2 more questions exceed the budget: 2 of 3 are spent. ...

With a folder, answers are on disk as soon as they have come, so that a killed or cut-off theft
goes on where it was. Answers are filed under a hash of the image's pixels: a method that runs
again finds its own questions, in whatever order it asks them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from doorward.errors import BadFile, EndpointFailed, InvalidInput
from doorward.extraction.answers import Answers
from doorward.files import atomic_file, read_json, sha256_file, write_json
from doorward.models import BlackBox, ModuleBox, OnnxBox
from doorward.models.answers import check_images

__all__ = ["Victim"]

FORMAT = "doorward-queries-1"
HEADER = "queries.json"
_KEY = 16  # bytes of an image's hash: two of a trillion images collide with probability 1e-15


class Victim:
    """A black box behind a meter and a memory.

    It is taken to be deterministic: an answer that is known is not asked for again.

    Args:
        box: what answers.
        answers: how much it tells (see `Answers`).
        budget: largest number of images that it is ever sent, over all resumed runs together.
        folder: where answers are kept; None for this process's memory only.

    Raises:
        InvalidInput: the budget is not positive, or the folder holds another victim's answers, or
            answers of another kind.
        BadFile: the folder's files are damaged.
        EndpointFailed: a server does not even describe itself.

    Attributes:
        seconds: spent waiting for answers, in this process.
    """

    def __init__(
        self,
        box: BlackBox,
        answers: str | Answers = "soft",
        *,
        budget: int,
        folder: Path | None = None,
    ) -> None:
        if budget < 1:
            raise InvalidInput(f"a budget of {budget} questions", why="at least 1 is needed")
        self.box, self.answers, self.budget = box, Answers.of(answers), budget
        self.folder, self.seconds = folder, 0.0
        self._known: dict[bytes, Tensor] = {}
        self._used: set[bytes] = set()  # what this run has asked about, from memory or not
        self._parts = 0
        if folder is not None:
            self._open(folder)

    @property
    def spent(self) -> int:
        """Images sent so far, by earlier processes too."""
        return len(self._known)

    @property
    def left(self) -> int:
        """Images that this run may still ask about.

        What an earlier, interrupted run has asked beyond this point is not counted, so that a
        method which decides by this number decides again as it did then.
        """
        return max(self.budget - len(self._used), 0)

    @property
    def num_classes(self) -> int | None:
        """How many classes the victim tells apart, as it says or as its answers show."""
        if self.box.num_classes is None and self.answers.soft and self._known:
            return len(next(iter(self._known.values())))
        return self.box.num_classes

    def cost(self, images: Tensor) -> int:
        """How many of `images` would have to be asked, rather than remembered."""
        return len({key for key in _keys(images) if key not in self._known})

    def ask(self, images: Tensor) -> Tensor:
        """The answers to images.

        Args:
            images: float ``(N, C, H, W)`` in ``[0, 1]``, N >= 1; any device.

        Returns:
            float32 ``(N, K)`` or int64 ``(N,)``, on the CPU.

        Raises:
            InvalidInput: the budget does not suffice (nothing is sent then), or images are none.
            ModelUnsuitable: the victim cannot answer so.
            EndpointFailed: the victim's server failed for good; what it answered before is kept.
        """
        check_images(images)
        if not len(images):
            raise InvalidInput("there are no images to ask about")
        images = images.detach().float().cpu()
        keys = _keys(images)
        unknown = list({key: row for row, key in enumerate(keys) if key not in self._known}.items())
        if len(unknown) > max(self.budget - self.spent, 0):
            raise InvalidInput(
                f"{len(unknown)} more questions exceed the budget",
                why=f"{self.spent} of {self.budget} are spent",
                remedy="ask less, or raise the budget",
            )
        size = int(getattr(self.box, "batch_size", 256))
        for start in range(0, len(unknown), size):
            self._send(images, unknown[start : start + size])
        self._used.update(keys)
        return torch.stack([self._known[key] for key in keys])

    def _send(self, images: Tensor, batch: list[tuple[bytes, int]]) -> None:
        begun = perf_counter()
        try:
            answers = self.answers.ask(self.box, images[[row for _, row in batch]])
        except EndpointFailed as error:
            if self.folder is None:
                raise
            kept = f"the {self.spent} answers so far are in {self.folder}; run it again to go on"
            raise EndpointFailed(error.what, why=error.why, remedy=kept) from error
        finally:
            self.seconds += perf_counter() - begun
        keys = [key for key, _ in batch]
        if self.folder is not None:
            self._write(self.folder, keys, answers)
        self._known.update(zip(keys, answers.unbind(), strict=True))

    def _write(self, folder: Path, keys: list[bytes], answers: Tensor) -> None:
        table = torch.frombuffer(bytearray(b"".join(keys)), dtype=torch.uint8).view(-1, _KEY)
        with atomic_file(folder / f"answers-{self._parts:06d}.safetensors") as temporary:
            try:
                save_file({"keys": table, "answers": answers.contiguous()}, temporary)
            except SafetensorError as error:  # it wraps the operating system's error as text
                raise OSError(str(error)) from error
        self._parts += 1

    def _open(self, folder: Path) -> None:
        facts = {
            "format": FORMAT,
            "victim": _identify(self.box),
            "answers": str(self.answers),
        }
        empty = not any(folder.glob("answers-*.safetensors"))
        if empty:  # nothing was learnt there yet, whoever was meant to be asked
            write_json(folder / HEADER, facts)
            return
        before = read_json(folder / HEADER)
        if not isinstance(before, dict) or before.get("format") != FORMAT:
            raise BadFile(f"{folder / HEADER} is no record of questions", remedy=_again(folder))
        for name in ("victim", "answers"):
            if before.get(name) != facts[name]:
                raise InvalidInput(
                    f"{folder} holds answers of another {'victim' if name == 'victim' else 'kind'}",
                    why=f"{before.get(name)} then, {facts[name]} now",
                    remedy="choose another folder for this one",
                )
        for keys, answers in self._read(folder):
            self._known.update(zip(keys, answers.unbind(), strict=True))

    def _read(self, folder: Path) -> Iterator[tuple[list[bytes], Tensor]]:
        """The parts on disk, each checked; they come from this folder's owner, but files rot."""
        width: int | None = self.box.num_classes if self.answers.soft else None
        for path in sorted(folder.glob("answers-*.safetensors")):
            try:
                content = load_file(path)
                keys, answers = content["keys"], content["answers"]
            except (OSError, SafetensorError, KeyError) as error:
                raise BadFile(
                    f"{path} cannot be read", why=str(error), remedy=_again(folder)
                ) from error
            soft = answers.dtype == torch.float32 and answers.ndim == 2
            width = answers.shape[1] if soft and width is None else width
            fits = answers.shape[1] == width if soft else answers.dtype == torch.int64
            if (
                soft != self.answers.soft
                or not fits
                or keys.dtype != torch.uint8
                or keys.shape != (len(answers), _KEY)
                or answers.ndim != 1 + soft
                or not bool((answers >= 0).all())
                or (soft and not bool((answers <= 1).all()))
            ):
                raise BadFile(f"{path} holds no answers of this victim", remedy=_again(folder))
            self._parts = int(path.stem.partition("-")[2] or 0) + 1
            yield [bytes(row.tolist()) for row in keys], answers


def _keys(images: Tensor) -> list[bytes]:
    """A hash per image, over its shape and the bytes of its float32 pixels."""
    rows = images.detach().float().cpu().contiguous()
    shape = str(tuple(rows.shape[1:])).encode()
    return [hashlib.blake2b(row.numpy().data, digest_size=_KEY, key=shape).digest() for row in rows]


def _identify(box: BlackBox) -> dict[str, Any]:
    """What tells one victim from another: its description, and its weights where they are seen."""
    facts = dict(box.describe())
    facts.pop("versions", None)  # a server that adds a version still holds this model
    if isinstance(box, ModuleBox):
        facts["weights"] = _hash_weights(box.model)
    if isinstance(box, OnnxBox):
        facts["sha256"] = sha256_file(box.path)
    return facts


def _hash_weights(model: nn.Module) -> str:
    state = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        state.update(name.encode())
        state.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return state.hexdigest()


def _again(folder: Path) -> str:
    return f"delete {folder} to begin again"
