"""Official pickles are read, hostile and broken ones are not, and nothing in them is run."""

import os
import pickle
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from doorward.data import load
from doorward.data.cifar import read_plain_pickle
from doorward.errors import BadFile, UnsafeFile


class Malicious:
    """What an attacker pickles: reading it with plain pickle creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_malicious_pickle_runs_nothing(protocol, tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in ("batches.meta", *(f"data_batch_{number}" for number in range(1, 6))):
        names = [str(number) for number in range(10)]
        content = {"label_names": names, "data": np.zeros((1, 3072), np.uint8), "labels": [0]}
        (folder / name).write_bytes(pickle.dumps(content, protocol=3))
    assert len(load("cifar10", root=tmp_path)) == 5
    trace = tmp_path / "executed"
    attack = pickle.dumps({"data": Malicious(trace), "labels": []}, protocol=protocol)
    (folder / "data_batch_3").write_bytes(attack)
    with pytest.raises(UnsafeFile, match=r"posix\.mkdir"):
        load("cifar10", root=tmp_path)
    assert not trace.exists()
    pickle.loads(attack)
    assert trace.exists()  # the file was indeed malicious


@pytest.mark.parametrize(
    "content",
    [
        np.array([object()], dtype=object),
        np.zeros(3, dtype=[("field", "u1")]),
        np.zeros(3, dtype="f8"),
    ],
)
def test_arrays_of_anything_but_bytes_are_refused(content, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(pickle.dumps(content, protocol=3))
    with pytest.raises(BadFile):
        read_plain_pickle(path)


@settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_fuzzed_pickles_end_in_our_errors(tmp_path, data):
    whole = pickle.dumps({"data": np.zeros((1, 8), np.uint8), "labels": [1, 2]}, protocol=3)
    fuzzed = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        fuzzed[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "fuzzed"
    path.write_bytes(bytes(fuzzed[: data.draw(st.integers(0, len(whole)))]))
    with suppress(BadFile):  # an UnsafeFile is one, too
        read_plain_pickle(path)
