"""The MATLAB reader: what SciPy writes is read, anything else is refused and never crashes."""

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from doorward.data.matlab import read_matrices
from doorward.errors import BadFile

QUIET = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8"])
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (2, 3, 4, 5), (0, 3)])
def test_what_scipy_writes_is_read(tmp_path, compressed, dtype, shape):
    values = np.arange(np.prod(shape), dtype=dtype).reshape(shape)
    written = {"X": values, "a_long_name_of_a_matrix": values[:1]}
    savemat(tmp_path / "a.mat", written, do_compression=compressed)
    content = read_matrices(tmp_path / "a.mat")
    assert content.keys() == written.keys()
    for name, array in written.items():
        assert content[name].dtype == array.dtype
        assert np.array_equal(content[name], array)


@pytest.mark.parametrize("value", ["text", {"field": 1}, np.array([[1 + 2j]])])
def test_other_things_than_real_matrices_are_refused(tmp_path, value):
    savemat(tmp_path / "a.mat", {"X": value})
    with pytest.raises(BadFile, match="real numbers"):
        read_matrices(tmp_path / "a.mat")


@pytest.mark.parametrize("compressed", [False, True])
def test_every_truncation_is_refused(tmp_path, compressed):
    path = tmp_path / "a.mat"
    savemat(path, {"X": np.arange(40, dtype=np.uint8)}, do_compression=compressed)
    whole = path.read_bytes()
    for length in (0, 100, *range(129, len(whole))):
        path.write_bytes(whole[:length])
        with pytest.raises(BadFile):
            read_matrices(path)


def test_a_lying_size_asks_for_no_memory(tmp_path):
    path = tmp_path / "a.mat"
    savemat(path, {"X": np.arange(40, dtype=np.uint8)})
    lying = bytearray(path.read_bytes())
    lying[132:136] = b"\xff" * 4
    path.write_bytes(lying)
    with pytest.raises(BadFile, match="ends within"):
        read_matrices(path)


@settings(max_examples=200, **QUIET)
@given(st.booleans(), st.lists(st.tuples(st.integers(0, 219), st.integers(0, 255)), max_size=5))
def test_fuzzed_files_end_in_our_errors(tmp_path, compressed, changes):
    path = tmp_path / "a.mat"
    savemat(path, {"X": np.arange(40, dtype=np.uint8)}, do_compression=compressed)
    fuzzed = bytearray(path.read_bytes())
    for position, value in changes:
        fuzzed[position % len(fuzzed)] = value
    path.write_bytes(fuzzed)
    with suppress(BadFile):
        read_matrices(path)
