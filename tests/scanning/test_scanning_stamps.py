"""Recovered stamps and changes: by hand, on disk, and under attack."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from torch import Tensor

from doorward.errors import BadFile, DoorwardError, IntegrityError, InvalidInput, MissingData
from doorward.files import canonical_json
from doorward.scanning import Perturbation, Recovered, Stamp, load_recovered, save_recovered


def draw() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def stamp() -> Stamp:
    mask = torch.tensor([[[0.0, 0.5], [1.0, 0.25]]])
    return Stamp.of(2, mask=mask, pattern=torch.tensor([[[1.0, 1.0], [0.0, 1.0]]]))


def test_a_stamp_by_hand() -> None:
    images = torch.full((2, 1, 2, 2), 0.5)
    assert stamp().stamp(images, draw())[1].flatten().tolist() == [0.5, 0.75, 0.0, 0.625]
    assert stamp().pictures(2, draw())[0].flatten().tolist() == [0.5, 0.75, 0.0, 0.625]


def test_a_change_by_hand() -> None:
    change = Perturbation.of(0, change=torch.tensor([[[0.75, -0.75], [0.25, 0.0]]]))
    images = torch.full((1, 1, 2, 2), 0.5)
    assert change.stamp(images, draw()).flatten().tolist() == [1.0, 0.0, 0.75, 0.5]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Stamp.of(0, mask=torch.ones(1, 3, 2), pattern=torch.ones(1, 2, 2)), "do not fit"),
        (lambda: Stamp.of(0, mask=2 * torch.ones(1, 2, 2), pattern=torch.ones(1, 2, 2)), "mask"),
        (lambda: Perturbation.of(0, change=torch.full((1, 2, 2), float("nan"))), "change"),
        (lambda: Perturbation.of(-1, change=torch.ones(1, 2, 2)), "target"),
        (lambda: Perturbation.of(0, change=torch.ones(2, 2)), "image_shape"),
        (lambda: Stamp(0, (1, 2, 10**9)), "image_shape"),
        (lambda: Stamp(0, "abc"), "image_shape"),
        (lambda: stamp().stamp(torch.ones(1, 1, 3, 3), draw()), "recovered for images"),
    ],
)
def test_bad_calls(call: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        call()


@pytest.mark.parametrize(
    "made", [stamp(), Perturbation.of(1, change=torch.rand(3, 4, 5) - 0.5)], ids=["stamp", "change"]
)
def test_what_is_saved_comes_back(made: Recovered, tmp_path: Path) -> None:
    save_recovered(made, tmp_path / "found")
    again = load_recovered(tmp_path / "found")
    assert again.config() == made.config()
    assert all(torch.equal(a, b) for a, b in zip(again.buffers(), made.buffers(), strict=True))


def test_only_registered_kinds_are_saved(tmp_path: Path) -> None:
    class Own(Stamp):
        """Not registered."""

    with pytest.raises(InvalidInput, match="not a registered kind"):
        save_recovered(Own(0, (1, 2, 2)), tmp_path / "found")
    assert not (tmp_path / "found").exists()


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(MissingData):
        load_recovered(tmp_path / "nothing")
    save_recovered(stamp(), tmp_path / "found")
    (tmp_path / "found" / "recovered.safetensors").unlink()
    with pytest.raises(MissingData, match="Copy the whole folder"):
        load_recovered(tmp_path / "found")


def test_tampering_is_noticed(tmp_path: Path) -> None:
    save_recovered(stamp(), tmp_path / "found")
    file = tmp_path / "found" / "recovered.json"
    file.write_text(file.read_text().replace('"target": 2', '"target": 3'))
    with pytest.raises(IntegrityError, match="changed or damaged"):
        load_recovered(tmp_path / "found")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_files_are_refused(data: st.DataObject, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    save_recovered(stamp(), folder)
    file = folder / data.draw(st.sampled_from(["recovered.json", "recovered.safetensors"]))
    content = bytearray(file.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content = content[:place]
    else:
        content[place] ^= data.draw(st.integers(1, 255))
    file.write_bytes(bytes(content))
    try:
        again = load_recovered(folder)
    except DoorwardError:
        return
    # White space and the order of keys carry no meaning.
    assert again.config() == stamp().config()
    assert torch.equal(
        again.stamp(torch.zeros(1, 1, 2, 2), draw()), stamp().stamp(torch.zeros(1, 1, 2, 2), draw())
    )


def forge(folder: Path, described: Any, tensors: dict[str, Tensor]) -> None:
    """A folder whose digest is right, whatever is in it: anybody can compute one."""
    content = save(tensors)
    sealed = hashlib.sha256(canonical_json(described) + b"\n" + content).hexdigest()
    folder.mkdir()
    (folder / "recovered.safetensors").write_bytes(content)
    (folder / "recovered.json").write_text(json.dumps({**described, "sha256": sealed}))


GOOD: dict[str, Tensor] = {"mask": torch.ones(1, 2, 2), "pattern": torch.ones(1, 2, 2)}


@pytest.mark.parametrize(
    ("change", "tensors"),
    [
        ({"kind": "stmap"}, GOOD),
        ({"kind": 7}, GOOD),
        ({"config": "ab"}, GOOD),
        ({"config": [1, 2]}, GOOD),
        ({"config": {"target": 1}}, GOOD),
        ({"config": {"target": True, "image_shape": [1, 2, 2]}}, GOOD),
        ({"config": {"target": 1, "image_shape": [1, 2, "2"]}}, GOOD),
        ({"config": {"target": 1, "image_shape": [1, 4096, 10**12]}}, GOOD),
        ({"config": {"target": 1, "image_shape": [1, 3, 2]}}, GOOD),
        ({"config": {"target": 1, "image_shape": [1, 2, 2], "more": 1}}, GOOD),
        ({}, {"mask": torch.ones(1, 2, 2)}),
        ({}, GOOD | {"more": torch.ones(1)}),
        ({}, GOOD | {"mask": torch.full((1, 2, 2), float("nan"))}),
        ({}, GOOD | {"mask": torch.full((1, 2, 2), 1.5)}),
        ({}, GOOD | {"pattern": torch.ones(1, 2, 2, dtype=torch.int64)}),
        ({}, GOOD | {"pattern": torch.ones(2, 2)}),
    ],
)
def test_forged_files_are_refused(
    change: dict[str, Any], tensors: dict[str, Tensor], tmp_path: Path
) -> None:
    described = {
        "schema": "doorward-recovered/1",
        "kind": "stamp",
        "config": {"target": 1, "image_shape": [1, 2, 2]},
    }
    forge(tmp_path / "good", described, GOOD)
    assert load_recovered(tmp_path / "good").target == 1
    forge(tmp_path / "forged", described | change, tensors)
    with pytest.raises(BadFile):
        load_recovered(tmp_path / "forged")


@pytest.mark.parametrize("text", ["[]", '"a"', "{}", '{"schema": "doorward-recovered/2"}', "{"])
def test_other_files_are_no_recovered_triggers(text: str, tmp_path: Path) -> None:
    (tmp_path / "recovered.json").write_text(text)
    with pytest.raises(BadFile):
        load_recovered(tmp_path)


def test_numbers_that_json_does_not_know(tmp_path: Path) -> None:
    save_recovered(stamp(), tmp_path / "found")
    file = tmp_path / "found" / "recovered.json"
    file.write_text(file.read_text().replace('"target": 2', '"target": NaN'))
    with pytest.raises(BadFile):
        load_recovered(tmp_path / "found")
