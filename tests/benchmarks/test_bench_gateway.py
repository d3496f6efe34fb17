"""Study of the gateway under load: its quick tier, on a real process."""

from __future__ import annotations

import pytest

from doorward import benchmarks as db


@pytest.mark.slow
def test_gateway_load(tmp_path) -> None:
    result = db.run("gateway-load", "quick", seeds=1, engine="inline", out=tmp_path)
    assert [failure.error for failure in result.failures] == []
    (row,) = result.rows
    assert row.metrics["share"] == pytest.approx(
        row.metrics["images_per_second"] / row.metrics["in_process"]
    )
    assert row.metrics["honeypot_ratio"] > 0
    assert 0 < row.metrics["p50_ms"] <= row.metrics["p99_ms"]
    # Every answer has its row, whether its time was counted or not.
    assert row.metrics["rows"] * 16 >= row.metrics["images_per_second"]
