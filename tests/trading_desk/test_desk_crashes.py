"""Kill the desk before any write or commit, start it again, and go on: nothing is lost.

The process is killed for good (SIGKILL in a forked child), then the database is opened again, the
step that was interrupted is repeated, and in the end every account must hold what it holds
when nothing crashes.
"""

import os
import shutil
import signal
from contextlib import suppress

import pytest
from sqlalchemy import event
from tests.trading_desk.conftest import make_scene
from tests.trading_desk.goods import KEY, NOW, PREIMAGE

from doorward.serving.desk import Funding
from doorward.trading.protocol import DealRefused, Stage


def steps():
    """Four deals, one after the other, as small steps that can be repeated."""
    deals = {}

    def make(serial, *actions):
        def listed(scene):
            deals[serial] = scene.offer(serial)

        yield listed
        for artefact in ("trial", "key", "preimage"):
            yield lambda scene, artefact=artefact: scene.leave(deals[serial], artefact)
        for action in actions:
            yield lambda scene, action=action: action(scene, deals[serial])

    def deposit(scene, deal):
        return scene.desk.deals.deposit(scene.bob, deal)

    def fetch(scene, deal):
        return scene.desk.deals.goods(scene.bob, deal, "trial")

    def pay(scene, deal):
        return scene.desk.deals.pay(scene.bob, deal)

    def take(scene, deal):
        assert scene.desk.deals.goods(scene.bob, deal, "key") == KEY
        assert scene.desk.store.state(deal).preimage == PREIMAGE.hex()

    def accept(scene, deal):
        return scene.desk.deals.accept(scene.bob, deal)

    def dispute(scene, deal):
        report = scene.report(deal, "unlocked", 90, 500)
        return scene.desk.deals.dispute(scene.bob, deal, report)

    def reveal(scene, deal):
        return scene.leave(deal, "opening")

    def withdraw(scene, deal):
        return scene.desk.deals.withdraw(scene.bob, deal)

    def late(scene, deal):
        scene.clock[0] = NOW + 200
        scene.desk.sweep()

    def top_up(scene, deal):
        scene.desk.fund("prepaid", Funding(account=scene.bob.fingerprint, cents=77, key="late"))

    yield from make(1, deposit, fetch, pay, take, accept, top_up)
    yield from make(2, deposit, fetch, pay, dispute, reveal, lambda scene, _: scene.desk.sweep())
    yield from make(3, deposit, withdraw, deposit, fetch, withdraw)
    yield from make(4, deposit, fetch, late)


EXPECTED = [20_000 + 5000 + 5000 + 500 + 500, 20_000 - 5000 + 77 - 5000 - 500 - 500]
STAGES = [Stage.SETTLED, Stage.SETTLED, Stage.FORFEITED, Stage.FORFEITED]


@pytest.fixture(scope="module")
def funded(tmp_path_factory, ada, bob, desk_identity):
    """A database with two funded accounts, to copy."""
    folder = tmp_path_factory.mktemp("funded")
    scene = make_scene(folder / "desk.sqlite", folder, desk_identity, ada, bob)
    scene.fund(cents=20_000)
    scene.desk.database.close()
    return folder / "desk.sqlite"


class Life:
    """One desk in one folder, that may die and be started again."""

    def __init__(self, folder, funded, *parties):
        self.folder, self.parties = folder, parties
        shutil.copy(funded, folder / "desk.sqlite")

    def scene(self):
        desk, ada, bob = self.parties
        return make_scene(self.folder / "desk.sqlite", self.folder, desk, ada, bob)

    def live(self, scene, first=0, note=lambda number: None):
        """Take the steps from `first` on; one that was taken before the crash is refused."""
        for number, step in enumerate(steps()):
            if number < first and step.__name__ != "listed":
                continue  # a listing is repeated to learn its name; it changes nothing
            try:
                step(scene)
            except DealRefused:
                if number != first:  # only the step that was interrupted may be done already
                    raise
            note(number + 1)

    def die(self, point):
        """Live in a child process that is killed at one point; the number of steps it finished."""
        noted = self.folder / "noted"
        noted.write_text("0")
        child = os.fork()
        if child == 0:
            try:
                scene = self.scene()
                count_points(
                    scene, lambda now: now == point and os.kill(os.getpid(), signal.SIGKILL)
                )
                self.live(scene, note=lambda number: noted.write_text(str(number)))
            finally:
                os._exit(9)  # it was not killed
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), f"there is no point {point}"
        return int(noted.read_text() or 0)


def count_points(scene, at_point):
    """Call `at_point` with a running number before every write and every commit."""
    passed = [0]

    def reached(*_):
        passed[0] += 1
        at_point(passed[0])

    def executes(_, __, statement, *___):
        if not statement.startswith(("SELECT", "BEGIN")):
            reached()

    event.listen(scene.desk.database.engine, "before_cursor_execute", executes)
    event.listen(scene.desk.database.engine, "commit", reached)
    return passed


def outcome(scene):
    scene.desk.verify()
    deals = scene.desk.store.deals_of(scene.ada.fingerprint)
    by_serial = sorted(deals, key=lambda deal: deal.listing.serial)
    for deal in deals:  # whoever paid can have the key, and nobody else could
        assert deal.released == any(move.reason == "final payment" for move in deal.moves)
        if deal.released:
            assert scene.desk.store.held(deal.id, "key") == KEY
    return list(scene.cents().values()), [deal.stage for deal in by_serial]


def crash_everywhere(tmp_path, funded, parties, stride):
    (tmp_path / "whole").mkdir()
    whole = Life(tmp_path / "whole", funded, *parties)
    scene = whole.scene()
    passed = count_points(scene, lambda now: None)
    whole.live(scene)
    total = passed[0]
    assert outcome(scene) == (EXPECTED, STAGES)
    scene.desk.database.close()
    points = range(1, total + 1, stride)
    for point in points:
        folder = tmp_path / str(point)
        folder.mkdir()
        life = Life(folder, funded, *parties)
        done = life.die(point)
        scene = life.scene()
        scene.desk.verify()
        life.live(scene, first=done)
        assert outcome(scene) == (EXPECTED, STAGES), f"killed at point {point}, step {done}"
        scene.desk.database.close()
        shutil.rmtree(folder)
    return len(points)


def test_killed_here_and_there(tmp_path, funded, ada, bob, desk_identity):
    assert crash_everywhere(tmp_path, funded, (desk_identity, ada, bob), stride=90) >= 3


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_before_every_write_and_commit(tmp_path, funded, ada, bob, desk_identity):
    assert crash_everywhere(tmp_path, funded, (desk_identity, ada, bob), stride=1) >= 200


def test_an_error_at_any_write_of_the_payment_leaves_the_deal_as_it_was(scene):
    """Not a crash but a failure: the transaction is rolled back, and the next attempt succeeds."""

    class Broken(Exception):
        pass

    deal = scene.trying()
    before = scene.desk.store.state(deal)
    engine = scene.desk.database.engine
    failed = 0
    while scene.desk.store.state(deal) == before:
        left = [failed + 1]  # fail at the first statement, then at the second, ...

        def reached(*_, left=left):
            left[0] -= 1
            if left[0] == 0:
                raise Broken

        event.listen(engine, "before_cursor_execute", reached)
        with suppress(Broken):
            paid = scene.desk.deals.pay(scene.bob, deal)
        event.remove(engine, "before_cursor_execute", reached)
        failed += 1
    assert failed >= 10
    assert (paid.stage, paid.escrow) == (Stage.RELEASED, 5300)
    scene.desk.verify()
