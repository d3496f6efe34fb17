"""A seller, a buyer and a stranger; a desk in a temporary folder, and the same desk over HTTP."""

import atexit
import functools
import hashlib
import shutil
import tempfile
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.trading_desk.goods import GOODS, NOW, make_listing

from doorward.bundles.identity import Identity
from doorward.randomness import Secret
from doorward.serving import database as databases
from doorward.serving.database import Database, upgrade
from doorward.serving.desk import Actor, Custody, Desk, DeskSettings, Funding
from doorward.serving.desk.desk import MIGRATIONS
from doorward.trading.protocol import Counts, Finding, Measurement, sign_listing, sign_report


@pytest.fixture(scope="session", autouse=True)
def _no_power_cuts():
    """What survives a killed process needs no flush of the disk."""
    kept, databases.DURABILITY = databases.DURABILITY, "OFF"
    yield
    databases.DURABILITY = kept


@pytest.fixture(scope="session")
def ada():
    return Identity.new("Ada")


@pytest.fixture(scope="session")
def bob():
    return Identity.new("Bob")


@pytest.fixture(scope="session")
def eve():
    return Identity.new("Eve")


@pytest.fixture(scope="session")
def desk_identity():
    return Identity.new("The desk")


@dataclass
class Scene:
    """A desk with a clock that is set by hand, and its parties."""

    desk: Desk
    seller: Identity
    buyer: Identity
    clock: list = field(default_factory=lambda: [NOW])

    @property
    def ada(self):
        return Actor(self.seller.public)

    @property
    def bob(self):
        return Actor(self.buyer.public)

    def fund(self, cents=10_000):
        for actor in (self.ada, self.bob):
            self.desk.register(actor.public)
            funding = Funding(account=actor.fingerprint, cents=cents, key=actor.fingerprint)
            self.desk.fund("prepaid", funding)

    def offer(self, serial=0, **changes):
        listing = make_listing(self.ada.fingerprint, serial=serial, **changes)
        return self.desk.deals.offer(self.ada, sign_listing(listing, self.seller)).id

    def leave(self, deal, artefact, content=None, actor=None):
        content = GOODS[artefact] if content is None else content
        place = self.desk.custody.incoming()
        place.write_bytes(content)
        take = self.desk.deals.open if artefact == "opening" else self.desk.deals.stock
        named = () if artefact == "opening" else (artefact,)
        digest = hashlib.sha256(content).hexdigest()
        try:
            return take(actor or self.ada, deal, *named, place, sha256=digest, size=len(content))
        finally:
            place.unlink(missing_ok=True)

    def stock(self, deal):
        for artefact in ("trial", "key", "preimage"):
            after = self.leave(deal, artefact)
        return after

    def report(self, deal, subject, successes=None, trials=None):
        counts = None if trials is None else Counts(successes=successes, trials=trials)
        return sign_report(Finding(deal=deal, subject=subject, counts=counts), self.buyer)

    def trying(self, serial=0, **changes):
        deal = self.offer(serial, **changes)
        self.stock(deal)
        self.desk.deals.deposit(self.bob, deal)
        self.desk.deals.goods(self.bob, deal, "trial")
        return deal

    def cents(self):
        return {row["fingerprint"]: row["cents"] for row in self.desk.accounts()}


@pytest.fixture
def scene(tmp_path, ada, bob, desk_identity):
    """A desk whose measure finds a good model, with two funded accounts."""
    made = make_scene(tmp_path / "desk.sqlite", tmp_path, desk_identity, ada, bob)
    made.fund()
    yield made
    made.desk.database.close()


def good_measure(evidence):
    attack = None if evidence.ground == "accuracy" else Counts(successes=50, trials=500)
    return Measurement(right=Counts(successes=980, trials=1000), attack=attack)


@functools.cache
def migrated():
    """An empty database with all tables, to copy: migrating is most of the cost of a scene."""
    place = Path(tempfile.mkdtemp(prefix="doorward-desk-")) / "empty.sqlite"
    atexit.register(shutil.rmtree, place.parent, ignore_errors=True)
    database = Database(place)
    upgrade(database, MIGRATIONS, table="desk_version")
    database.close()
    return place


def make_scene(url, folder, identity, seller, buyer, *, measure=good_measure, rails=(), **settings):
    clock = [NOW]
    if isinstance(url, Path) and not url.exists():
        shutil.copy(migrated(), url)
    desk = Desk(
        Database(url),
        identity,
        Custody(folder / "goods", Secret(b"c" * 32)),
        DeskSettings(**settings),
        measure=measure,
        rails=rails,
        clock=lambda: clock[0],
    )
    return Scene(desk, seller, buyer, clock)


@contextmanager
def serving(app):
    """Serve an application on a free port; its URL."""
    import uvicorn

    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", lifespan="on")
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
        assert thread.is_alive()
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = server.force_exit = True
        thread.join(10)
