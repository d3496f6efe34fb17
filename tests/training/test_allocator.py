import subprocess
import sys

import pytest

COUNT_FAULTS = """
import resource, torch
from doorward.training.allocator import keep_memory
kept = keep_memory()
for _ in range(2):
    block = torch.ones(12 * 2**20)  # 48 MiB: above the largest threshold glibc sets by itself
del block
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.ones(12 * 2**20)
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _faults(monkeypatch, keep: str) -> tuple[bool, int]:
    monkeypatch.setenv("DOORWARD_KEEP_MEMORY", keep)
    done = subprocess.run(
        [sys.executable, "-c", COUNT_FAULTS], capture_output=True, text=True, check=True
    )
    kept, faults = done.stdout.split()
    return kept == "True", int(faults)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a setting of glibc's malloc")
def test_freed_memory_is_used_again_instead_of_cleared_anew(monkeypatch):
    kept, faults = _faults(monkeypatch, "1")
    if not kept:
        pytest.skip("the C library is not glibc")
    left_alone, more_faults = _faults(monkeypatch, "0")
    assert not left_alone
    # A kernel that is short of memory takes idle pages back meanwhile, and they fault again.
    assert faults < more_faults / 2
