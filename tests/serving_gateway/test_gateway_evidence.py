"""The evidence log: salted, chained, sealed; what was tampered with is found."""

from __future__ import annotations

import sqlite3

import numpy as np
import pytest
from tests.serving_gateway.gateways import SECRET, pictures

from doorward.errors import IntegrityError, StorageFailed
from doorward.randomness import Secret
from doorward.serving.database import Database
from doorward.serving.gateway import EvidenceLog
from doorward.serving.gateway.evidence import Account, Move


@pytest.fixture
def path(tmp_path):
    return tmp_path / "gateway.sqlite"


@pytest.fixture
def log(path):
    return EvidenceLog(Database(path), SECRET)


def entry(log, tenant="ada", images=None, **fields):
    images = pictures(2) if images is None else images
    answers = np.arange(len(images))
    return log.entry(tenant, tenant, images, answers, facts={"graph": "g"}, **fields)


def test_rows_are_chained_charged_and_found(log):
    asked = pictures(3, seed=1)
    outcomes = log.append([entry(log), entry(log, images=asked), entry(log, "bob", images=asked)])
    assert [(outcome.accepted, outcome.used) for outcome in outcomes] == [
        (True, 2), (True, 5), (True, 3),
    ]  # fmt: skip
    assert log.accounts() == {"ada": Account(5, 0), "bob": Account(3, 0)}
    check = log.check()
    assert (check.rows, check.problem) == (3, None)
    assert [row.number for row in log.find("ada", asked[2:])] == [2]
    assert log.find("ada", pictures(1, seed=9)) == []
    assert log.find("eve", asked) == []
    assert [row.time for row in log.rows()] == sorted(row.time for row in log.rows())


def test_budgets_bind_within_one_transaction(log):
    entries = [entry(log, budget=5), entry(log, budget=5), entry(log, budget=5)]
    assert [outcome.accepted for outcome in log.append(entries)] == [True, True, False]
    assert not log.append([entry(log, budget=5)])[0].accepted
    assert log.append([entry(log, images=pictures(1), budget=5)])[0].used == 5
    assert log.check().rows == 3


def test_nothing_of_images_answers_or_names_of_others_is_in_the_file(log, path):
    image = pictures(1)
    log.append([entry(log, images=image)])
    one, other = log.hashes("ada", "query", image), log.hashes("bob", "query", image)
    assert len(one) == 32
    assert one != other
    assert one != EvidenceLog(Database("sqlite://"), Secret.new()).hashes("ada", "query", image)
    content = path.read_bytes() + path.with_name(path.name + "-wal").read_bytes()
    assert image.tobytes()[:64] not in content
    assert one in content


def test_moves_are_rows_and_only_the_operator_moves_down(log):
    up = (Move(1, {"monitor": "prada"}), Move(2, {"monitor": "share"}))
    assert log.append([entry(log, moves=up[:1])])[0].stage == 1
    assert log.append([entry(log, start=1, moves=up[:1])])[0].stage == 1  # no move: it is there
    assert log.append([entry(log, moves=up)])[0].stage == 2
    moves = list(log.rows(kind="move"))
    assert [(row.number, row.tenant) for row in moves] == [(2, "ada"), (5, "ada")]
    assert moves[0].facts == '{"from":0,"monitor":"prada","to":1}'
    log.place("ada", 0, reason={"by": "operator"})
    assert log.account("ada") == Account(6, 0)
    assert log.append([entry(log)])[0].stage == 0
    assert log.check().intact


TAMPERING = {
    "delete from gateway_evidence where number = 2": "after row 1 comes row 3",
    "delete from gateway_evidence where number = 1": "after row 0 comes row 2",
    "delete from gateway_evidence where number = 4": "4 rows were written, 3 are there",
    "update gateway_evidence set tenant = 'bob' where number = 3": "row 3 was changed",
    "update gateway_evidence set count = 1 where number = 3": "row 3 was changed",
    "update gateway_evidence set time = time + 1 where number = 1": "row 1 was changed",
    "update gateway_evidence set facts = '{}' where number = 4": "row 4 was changed",
    "update gateway_evidence set queries = answers where number = 2": "row 2 was changed",
    "update gateway_evidence set digest = zeroblob(32) where number = 4": "row 4 was changed",
    "update gateway_chain set length = 3": "seal",
    "update gateway_chain set seal = zeroblob(32)": "seal",
    "delete from gateway_chain": "seal",
}


@pytest.mark.parametrize("statement", TAMPERING)
def test_tampering_is_found(log, path, statement):
    for seed in range(4):
        log.append([entry(log, images=pictures(2, seed))])
    before = log.check()
    assert before.intact
    with sqlite3.connect(path) as connection:
        connection.execute(statement)
    found = log.check()
    assert not found.intact
    assert TAMPERING[statement] in found.problem
    if "gateway_chain" in statement:
        with pytest.raises(IntegrityError, match="seal"):
            log.append([entry(log)])


def test_the_end_cut_off_with_its_seal_is_found_by_what_was_published(log, path):
    log.append([entry(log)])
    with sqlite3.connect(path) as connection:
        old = connection.execute("select length, head, seal from gateway_chain").fetchone()
    log.append([entry(log)])
    published = log.check()
    with sqlite3.connect(path) as connection:  # a backup of the first row, put back
        connection.execute("delete from gateway_evidence where number = 2")
        connection.execute("update gateway_chain set length = ?, head = ?, seal = ?", old)
    assert log.check().intact
    again = log.check((published.rows, published.head))
    assert "row 2, which was published, is missing" in again.problem
    log.append([entry(log, images=pictures(1))])
    assert "not the one that was published" in log.check((2, published.head)).problem


def test_another_secret_is_refused_before_it_writes(path, log):
    log.append([entry(log)])
    with pytest.raises(IntegrityError, match="seal"):
        EvidenceLog(Database(path), Secret.new())
    assert not EvidenceLog(Database(path), Secret.new(), verify=False).check().intact
    assert log.check().intact


def test_a_database_that_refuses_charges_nothing(log, path):
    with sqlite3.connect(path) as connection:
        connection.execute(
            "create trigger full before insert on gateway_evidence "
            "begin select raise(abort, 'full'); end"
        )
    with pytest.raises(StorageFailed, match="full"):
        log.append([entry(log)])
    assert log.accounts() == {}
    assert log.check().rows == 0
