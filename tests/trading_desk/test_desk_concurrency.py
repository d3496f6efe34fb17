"""Many at once: on SQLite always, on PostgreSQL where its binaries are installed."""

import os
import pwd
import shutil
import subprocess
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.trading_desk.conftest import make_scene

from doorward.serving.desk import Funding
from doorward.trading.protocol import DealRefused, Stage


def whole_deal(scene, serial):
    deal = scene.trying(serial)
    scene.desk.deals.pay(scene.bob, deal)
    if serial % 4 == 0:
        report = scene.report(deal, "unlocked", 90, 500)
        scene.desk.deals.dispute(scene.bob, deal, report)
        scene.leave(deal, "opening")
    else:
        scene.desk.deals.accept(scene.bob, deal)
    return deal


def trade_at_once(scene, count, threads):
    scene.fund(cents=5000 * count)
    with ThreadPoolExecutor(threads) as pool:
        deals = list(pool.map(lambda serial: whole_deal(scene, serial), range(1, count + 1)))
    scene.desk.sweep()
    assert len(set(deals)) == count
    assert {scene.desk.store.state(deal).stage for deal in deals} == {Stage.SETTLED}
    assert list(scene.cents().values()) == [10_000 * count, 0]
    scene.desk.verify()


def race(scene, serial):
    """Everybody tries to end one deal in another way at the same moment: exactly one does."""
    deal = scene.trying(serial)
    ways = [
        lambda: scene.desk.deals.pay(scene.bob, deal),
        lambda: scene.desk.deals.pay(scene.bob, deal),
        lambda: scene.desk.deals.withdraw(scene.bob, deal),
        lambda: scene.desk.deals.withdraw(scene.ada, deal),
    ]
    start = threading.Barrier(len(ways))

    def attempt(way):
        start.wait()
        try:
            return way().stage
        except DealRefused as refused:
            return refused.code

    with ThreadPoolExecutor(len(ways)) as pool:
        answers = sorted(pool.map(attempt, ways))
    assert answers == sorted(["stage"] * 3 + [scene.desk.store.state(deal).stage])
    scene.desk.verify()


def test_deals_at_once_on_sqlite(tmp_path, ada, bob, desk_identity):
    scene = make_scene(tmp_path / "desk.sqlite", tmp_path, desk_identity, ada, bob)
    trade_at_once(scene, count=8, threads=8)


def test_races_for_one_deal_have_one_winner(scene):
    scene.desk.fund("prepaid", Funding(account=scene.bob.fingerprint, cents=50_000, key="more"))
    for serial in range(4):
        race(scene, serial)


@pytest.mark.slow
def test_200_deals_at_once_on_sqlite(tmp_path, ada, bob, desk_identity):
    scene = make_scene(tmp_path / "desk.sqlite", tmp_path, desk_identity, ada, bob)
    trade_at_once(scene, count=200, threads=32)


@pytest.fixture(scope="module")
def postgres():
    """A PostgreSQL of our own, on a socket in a temporary folder: its URL."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("no PostgreSQL binaries under /usr/lib/postgresql")
    pytest.importorskip("psycopg")
    user = None
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        names = [entry.pw_name for entry in pwd.getpwall()]
        user = next((name for name in ("postgres", "nobody") if name in names), None)
        if user is None:
            pytest.skip("PostgreSQL does not run as root, and there is no other user")
    folder = Path(tempfile.mkdtemp(prefix="doorward-pg-"))
    if user:
        shutil.chown(folder, user)
    programs, data = found[-1].parent, folder / "data"

    def run(*words):
        subprocess.run([*map(str, words)], check=True, user=user, cwd=folder, capture_output=True)

    try:
        run(programs / "initdb", "-D", data, "-U", "doorward", "-A", "trust", "--no-sync")
        options = f"-k {folder} -c listen_addresses= -c max_connections=60 -c fsync=off"
        run(programs / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", options, "start")
        try:
            yield f"postgresql+psycopg://doorward@/postgres?host={folder}"
        finally:
            run(programs / "pg_ctl", "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_200_deals_at_once_on_postgresql(tmp_path, postgres, ada, bob, desk_identity):
    scene = make_scene(postgres, tmp_path, desk_identity, ada, bob)
    try:
        trade_at_once(scene, count=200, threads=16)
        more = Funding(account=scene.bob.fingerprint, cents=100_000, key="more")
        scene.desk.fund("prepaid", more)
        for serial in range(1000, 1010):
            race(scene, serial)
    finally:
        scene.desk.database.close()
