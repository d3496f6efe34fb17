"""Many at once: on SQLite always, on PostgreSQL where its binaries are installed."""

import threading
from concurrent.futures import ThreadPoolExecutor

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
