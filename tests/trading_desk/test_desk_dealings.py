"""The desk without HTTP: every outcome of a deal in the database, the books and the log."""

import sqlite3

import pytest
from sqlalchemy import text
from tests.trading_desk.conftest import make_scene
from tests.trading_desk.goods import KEY, NOW, OPENING, PREIMAGE, TRIAL, make_listing, make_terms

from doorward.errors import (
    DoorwardError,
    IntegrityError,
    InvalidInput,
    KeyRefused,
    MissingData,
    StorageFailed,
    UnknownName,
)  # fmt: skip
from doorward.randomness import Secret
from doorward.serving.database import Database, upgrade
from doorward.serving.desk import Actor, CommandMeasure, Custody, Evidence, Funding, audit
from doorward.serving.desk.desk import MIGRATIONS
from doorward.serving.desk.refusals import NotYours, Unauthenticated
from doorward.serving.desk.signatures import read_proof, sign_request
from doorward.serving.desk.tables import Base
from doorward.trading.protocol import Counts, DealRefused, Measurement, Stage, sign_listing


def test_a_deal_is_settled_and_everything_adds_up(scene):
    deal = scene.trying()
    desk, ada, bob = scene.desk, scene.ada.fingerprint, scene.bob.fingerprint
    assert desk.deals.goods(scene.bob, deal, "trial").read_bytes() == TRIAL
    desk.deals.report(scene.bob, deal, scene.report(deal, "trial", 975, 1000))
    paid = desk.deals.pay(scene.bob, deal)
    assert paid.preimage == PREIMAGE.hex()
    assert desk.deals.goods(scene.bob, deal, "key") == KEY
    assert scene.cents() == {ada: 9700, bob: 5000}
    report = scene.report(deal, "unlocked", 55, 500)
    assert desk.deals.accept(scene.bob, deal, report).stage is Stage.SETTLED
    assert scene.cents() == {ada: 15_000, bob: 5000}
    desk.verify()
    kinds = [event.kind for event in desk.store.history(deal)]
    assert kinds == ["stock"] * 3 + ["deposit", "fetch", "report", "pay", "accept"]


def test_no_key_before_payment_and_nothing_for_strangers(scene, eve):
    deal = scene.trying()
    stranger = Actor(eve.public)
    scene.desk.register(eve.public)
    with pytest.raises(NotYours, match="final payment"):
        scene.desk.deals.goods(scene.bob, deal, "key")
    scene.desk.deals.pay(scene.bob, deal)
    for who in (stranger, scene.ada):
        for what in ("trial", "key"):
            with pytest.raises(NotYours):
                scene.desk.deals.goods(who, deal, what)
    with pytest.raises(MissingData):
        scene.desk.deals.goods(scene.bob, deal, "opening")


def test_a_buyer_without_money_gets_nothing(tmp_path, ada, bob, desk_identity):
    scene = make_scene(tmp_path / "d.sqlite", tmp_path, desk_identity, ada, bob)
    scene.fund(cents=600)
    deal = scene.trying()
    with pytest.raises(DealRefused) as refused:
        scene.desk.deals.pay(scene.bob, deal)
    assert refused.value.code == "money"
    state = scene.desk.store.state(deal)
    assert (state.stage, state.preimage, state.escrow) == (Stage.TRYING, None, 800)
    scene.desk.verify()


@pytest.mark.parametrize(
    ("attack", "ends", "seller", "buyer"),
    [(90, Stage.REFUNDED, 9700, 10_300), (50, Stage.SETTLED, 15_000, 5000)],
)
def test_a_dispute_is_ruled_by_the_desks_count(
    tmp_path, ada, bob, desk_identity, attack, ends, seller, buyer
):
    seen = []

    def measure(evidence):
        seen.append((evidence.ground, evidence.opening, evidence.trial.read_bytes()))
        counted = Counts(successes=attack, trials=500)
        return Measurement(right=Counts(successes=980, trials=1000), attack=counted)

    scene = make_scene(tmp_path / "d.sqlite", tmp_path, desk_identity, ada, bob, measure=measure)
    scene.fund()
    deal = scene.trying()
    scene.desk.deals.pay(scene.bob, deal)
    scene.desk.deals.dispute(scene.bob, deal, scene.report(deal, "unlocked", 90, 500))
    assert scene.desk.sweep() == 0  # the seller has not shown the opened key
    scene.leave(deal, "opening")
    assert scene.desk.sweep() == 1
    state = scene.desk.store.state(deal)
    assert (state.stage, state.ruling.measured.attack.successes) == (ends, attack)
    assert list(scene.cents().values()) == [seller, buyer]
    assert seen == [("attack", OPENING, TRIAL)]
    scene.desk.verify()
    if ends is Stage.SETTLED:  # the buyer of a sealed key that was garbage is made whole
        assert scene.desk.deals.goods(scene.bob, deal, "opening") == OPENING


def test_a_silent_seller_loses_and_a_silent_buyer_too(scene):
    first, second = scene.trying(1), scene.trying(2)
    scene.desk.deals.pay(scene.bob, first)
    scene.desk.deals.dispute(scene.bob, first, scene.report(first, "key"))
    scene.clock[0] = NOW + 150
    assert scene.desk.sweep() == 2
    assert scene.desk.store.state(first).stage is Stage.REFUNDED
    assert scene.desk.store.state(second).stage is Stage.FORFEITED
    assert list(scene.cents().values()) == [10_000 - 300 + 500, 10_000 + 300 - 500]
    scene.desk.verify()


def test_a_deadline_counts_even_if_no_sweep_came(scene):
    deal = scene.trying()
    scene.clock[0] = NOW + 100
    with pytest.raises(DealRefused, match="forfeited"):
        scene.desk.deals.pay(scene.bob, deal)
    scene.desk.verify()


def test_an_inaccurate_trial_is_refunded_before_paying(tmp_path, ada, bob, desk_identity):
    def measure(_):
        return Measurement(right=Counts(successes=900, trials=1000))

    scene = make_scene(tmp_path / "d.sqlite", tmp_path, desk_identity, ada, bob, measure=measure)
    scene.fund()
    deal = scene.trying()
    scene.desk.deals.dispute(scene.bob, deal, scene.report(deal, "trial", 900, 1000))
    assert scene.desk.sweep() == 1
    assert scene.desk.store.state(deal).stage is Stage.REFUNDED
    assert list(scene.cents().values()) == [9700, 10_300]


def test_the_operator_can_count_by_hand(tmp_path, ada, bob, desk_identity):
    scene = make_scene(tmp_path / "d.sqlite", tmp_path, desk_identity, ada, bob, measure=None)
    scene.fund()
    deal = scene.trying()
    with pytest.raises(DealRefused, match="no ruling"):
        scene.desk.rulings.rule(deal)
    scene.desk.deals.pay(scene.bob, deal)
    scene.desk.deals.dispute(scene.bob, deal, scene.report(deal, "unlocked", 90, 500))
    scene.leave(deal, "opening", actor=scene.bob)
    assert scene.desk.sweep() == 0
    assert scene.desk.rulings.pending() == [deal]
    with pytest.raises(DoorwardError, match="no measuring command"):
        scene.desk.rulings.rule(deal)
    counts = {"successes": 95, "trials": 500}
    measured = Measurement.from_dict({"right": {"successes": 1, "trials": 1}, "attack": counts})
    assert scene.desk.rulings.rule(deal, measured=measured).stage is Stage.REFUNDED


def test_a_failing_measure_leaves_the_dispute_pending(tmp_path, ada, bob, desk_identity):
    def measure(_):
        raise DoorwardError("the machine is busy")

    scene = make_scene(tmp_path / "d.sqlite", tmp_path, desk_identity, ada, bob, measure=measure)
    scene.fund()
    deal = scene.trying()
    scene.desk.deals.dispute(scene.bob, deal, scene.report(deal, "trial", 900, 1000))
    assert scene.desk.sweep() == 0
    assert scene.desk.rulings.pending() == [deal]


def test_reports_of_others_or_about_other_things_are_not_taken(scene, eve):
    deal = scene.trying()
    other = scene.report("0" * 64, "trial", 1, 10)
    with pytest.raises(IntegrityError, match="another deal"):
        scene.desk.deals.report(scene.bob, deal, other)
    with pytest.raises(InvalidInput, match="unlocked"):
        scene.desk.deals.report(scene.bob, deal, scene.report(deal, "unlocked", 1, 10))
    genuine = scene.report(deal, "trial", 1, 10)
    with pytest.raises(IntegrityError):
        scene.desk.deals.report(Actor(eve.public), deal, genuine)
    genuine["content"]["counts"]["successes"] = 2
    with pytest.raises(IntegrityError):
        scene.desk.deals.report(scene.bob, deal, genuine)


def test_listings_must_be_signed_by_their_seller_and_fit_the_desk(scene, bob):
    listing = make_listing(scene.ada.fingerprint)
    with pytest.raises(IntegrityError):
        scene.desk.deals.offer(scene.bob, sign_listing(listing, scene.seller))
    dollars = make_listing(scene.ada.fingerprint, terms=make_terms(currency="USD"))
    with pytest.raises(InvalidInput, match="EUR"):
        scene.desk.deals.offer(scene.ada, sign_listing(dollars, scene.seller))
    huge = make_listing(scene.ada.fingerprint, trial_bytes=2**40)
    with pytest.raises(InvalidInput, match="bytes"):
        scene.desk.deals.offer(scene.ada, sign_listing(huge, scene.seller))
    deal = scene.offer()
    assert scene.offer() == deal  # the same listing again is the same deal
    assert len(scene.desk.store.deals_of(scene.ada.fingerprint)) == 1


def test_a_wrong_artefact_is_refused_and_not_kept(scene):
    deal = scene.offer()
    with pytest.raises(DealRefused, match="not the trial"):
        scene.leave(deal, "trial", b"another model")
    assert not list((scene.desk.custody.folder / "trials").rglob("*/*"))
    with pytest.raises(InvalidInput):
        scene.desk.custody.trial("../../etc/passwd")


def test_top_ups_count_once_and_never_twice_differently(scene):
    ada = scene.ada.fingerprint
    funding = Funding(account=ada, cents=5, key="receipt")
    assert scene.desk.fund("prepaid", funding)
    assert not scene.desk.fund("prepaid", funding)
    with pytest.raises(IntegrityError):
        scene.desk.fund("prepaid", Funding(account=ada, cents=6, key="receipt"))
    with pytest.raises(UnknownName):
        scene.desk.fund("cheque", funding)
    with pytest.raises(MissingData):
        scene.desk.fund("prepaid", Funding(account="0" * 64, cents=6, key="x"))
    assert scene.desk.account(ada)["cents"] == 10_005
    out = Funding(account=ada, cents=10_006, key="out")
    with pytest.raises(DealRefused):
        scene.desk.fund("prepaid", out, direction="out")
    scene.desk.verify()


def test_a_nonce_counts_once_even_after_a_restart(scene, tmp_path):
    headers = sign_request(scene.buyer, scene.desk.fingerprint, "GET", "/", b"", now=NOW)
    proof = read_proof(headers)
    scene.desk.consume(proof)
    again = make_scene(
        tmp_path / "desk.sqlite", tmp_path, scene.desk.identity, scene.seller, scene.buyer
    )
    with pytest.raises(Unauthenticated, match="before"):
        again.desk.consume(proof)
    scene.clock[0] = NOW + 601  # the nonce is forgotten only when the signature is too old anyway
    scene.desk.sweep()
    with pytest.raises(Unauthenticated, match="apart"):
        proof.verify(scene.buyer.public, scene.desk.fingerprint, "GET", "/", now=scene.clock[0])


@pytest.mark.parametrize(
    "statement",
    [
        "update desk_balances set cents = cents + 1 where account like 'account/%'",
        "update desk_entries set cents = cents * 2 where account like 'escrow/%'",
        "update desk_deals set stage = 'settled'",
        'update desk_deals set state = replace(state, \'"stage":"trying"\', \'"stage":"stocked"\')',
        "delete from desk_events where number = 2",
        "delete from desk_artefacts where kind = 'preimage'",
        "update desk_audit set action = 'gift' where number = 3",
        "delete from desk_audit where number = 3",
    ],
)
def test_a_database_that_was_tampered_with_is_noticed(scene, statement):
    scene.trying()
    scene.desk.verify()
    with scene.desk.database.writing() as session:
        session.execute(text(statement))
    with pytest.raises(DoorwardError):
        scene.desk.verify()


def test_the_database_itself_refuses_overdrafts(scene):
    from sqlalchemy.exc import IntegrityError as Refused

    with pytest.raises(Refused), scene.desk.database.writing() as session:
        session.execute(text("update desk_balances set cents = -1 where account != 'outside'"))


def test_a_stolen_database_releases_nothing(scene, tmp_path):
    deal = scene.offer()
    scene.stock(deal)
    scene.desk.database.close()
    content = (tmp_path / "desk.sqlite").read_bytes()
    assert KEY not in content
    assert PREIMAGE not in content
    assert PREIMAGE.hex().encode() not in content
    wrong = Custody(tmp_path / "goods", Secret(b"d" * 32))
    scene.desk.custody = wrong
    with pytest.raises(KeyRefused):
        scene.desk.store.held(deal, "key")


def test_the_log_is_shown_to_those_it_concerns(scene, eve):
    scene.trying()
    scene.desk.register(eve.public)
    lines = scene.desk.log_for(eve.public.fingerprint, first=0, limit=100)
    assert [line["action"] for line in lines if "action" in line] == ["register"]
    whole = scene.desk.log_for(scene.bob.fingerprint, first=0, limit=100)
    assert audit.verify_chain(lines) == audit.verify_chain(whole) == lines[-1]["sha256"]
    assert audit.verify_chain(lines[3:], start=lines[2]["sha256"], first=3)
    with pytest.raises(IntegrityError, match="line 2"):
        audit.verify_chain([*lines[:2], *lines[3:]])


def test_migrations_make_what_the_models_say(tmp_path):
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    database = Database(tmp_path / "new.sqlite")
    for _ in range(2):  # a second run changes nothing
        upgrade(database, MIGRATIONS, table="desk_version")
    with database.engine.connect() as connection:
        options = {"compare_type": True, "version_table": "desk_version"}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, Base.metadata) == []
        assert connection.exec_driver_sql("pragma journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("pragma foreign_keys").scalar() == 1
    with database.writing() as session:
        session.execute(text("update desk_version set version_num = 'desk_9999'"))
    with pytest.raises(StorageFailed, match="newer"):
        upgrade(database, MIGRATIONS, table="desk_version")


@pytest.mark.parametrize("url", ["mysql://host/x", "sqlite", "nonsense://", "://"])
def test_other_databases_are_refused(url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if url == "sqlite":  # a path: a file of that name
        assert Database(url).engine.url.database == str(tmp_path / "sqlite")
        return
    with pytest.raises(InvalidInput):
        Database(url)


def test_an_unwritable_database_says_so(tmp_path):
    database = Database(tmp_path / "no" / "where.sqlite")
    with pytest.raises(StorageFailed), database.writing() as session:
        session.execute(text("select 1"))
    with pytest.raises(StorageFailed), database.reading() as session:
        session.execute(text("select 1"))
    with pytest.raises(StorageFailed):
        upgrade(database, MIGRATIONS, table="desk_version")


class TestMeasuring:
    SCRIPT = (
        "import json,os,sys\n"
        "trial, opening, listing, ground = sys.argv[1:]\n"
        "assert 'DOORWARD_PASSPHRASE' not in os.environ\n"
        "assert json.load(open(listing))['title']\n"
        "attack = {'successes': len(open(opening,'rb').read()), 'trials': 500}\n"
        "right = {'successes': 1, 'trials': len(open(trial,'rb').read())}\n"
        "print(json.dumps({'right': right, 'attack': attack}))"
    )

    def measure(self, tmp_path, script, **changes):
        import sys

        trial = tmp_path / "trial"
        trial.write_bytes(TRIAL)
        command = (sys.executable, "-c", script, "{trial}", "{opening}", "{listing}", "{ground}")
        listing = make_listing("a" * 64)
        evidence = Evidence(ground="attack", listing=listing, trial=trial, opening=OPENING)
        return CommandMeasure(command, **changes)(evidence)

    def test_a_command_counts(self, tmp_path, monkeypatch):
        monkeypatch.setenv("DOORWARD_PASSPHRASE", "secret")
        measured = self.measure(tmp_path, self.SCRIPT)
        assert measured.attack == Counts(successes=len(OPENING), trials=500)
        assert measured.right.trials == len(TRIAL)

    @pytest.mark.parametrize(
        ("script", "said"),
        [
            ("print('hello')", "no measurement"),
            ('print(\'{"right": {"successes": 2, "trials": 1}}\')', "no measurement"),
            ("import sys; sys.exit('broken model')", "broken model"),
        ],
    )
    def test_what_is_not_a_count_is_refused(self, tmp_path, script, said):
        with pytest.raises(DoorwardError, match=said):
            self.measure(tmp_path, script)

    def test_it_is_stopped(self, tmp_path):
        with pytest.raises(DoorwardError, match="did not finish"):
            self.measure(tmp_path, "import time; time.sleep(60)", seconds=1)

    def test_a_command_must_take_the_trial(self):
        with pytest.raises(InvalidInput):
            CommandMeasure(("true",))


def test_sqlite_files_are_ordinary(scene, tmp_path):
    deal = scene.offer()
    with sqlite3.connect(tmp_path / "desk.sqlite") as connection:
        assert connection.execute("select id from desk_deals").fetchall() == [(deal,)]
