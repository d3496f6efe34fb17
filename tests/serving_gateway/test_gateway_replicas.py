"""Several gateways on one database: one chain, one budget, no row lost."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.serving_gateway.gateways import SECRET, pictures

from doorward.serving.database import Database
from doorward.serving.gateway import EvidenceLog


def append_at_once(url, replicas, groups, budget):
    logs = [EvidenceLog(Database(url), SECRET) for _ in range(replicas)]

    def work(replica):
        accepted = 0
        for number in range(groups):
            entries = [
                logs[replica].entry(
                    name, "group:all", pictures(1, number), pictures(1), facts={"n": number},
                    budget=budget,
                )
                for name in ("ada", "bob")
            ]  # fmt: skip
            accepted += sum(outcome.accepted for outcome in logs[replica].append(entries))
        return accepted

    with ThreadPoolExecutor(replicas) as pool:
        accepted = sum(pool.map(work, range(replicas)))
    check = logs[0].check()
    assert check.intact, check.problem
    assert accepted == check.rows == logs[0].account("group:all").used
    assert accepted == min(budget, replicas * groups * 2)


def test_replicas_on_sqlite(tmp_path):
    append_at_once(tmp_path / "gateway.sqlite", replicas=3, groups=8, budget=40)


@pytest.mark.slow
def test_replicas_on_postgresql(postgres):
    append_at_once(postgres, replicas=4, groups=40, budget=300)
