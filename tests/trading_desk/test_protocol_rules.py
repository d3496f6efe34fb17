"""The rules of a deal, one by one, with sums worked out by hand."""

import pytest
from tests.trading_desk.goods import (
    KEY,
    NOW,
    OPENING,
    PREIMAGE,
    TRIAL,
    make_listing,
    make_terms,
    sha256,
    stocked,
)  # fmt: skip

from doorward.errors import IntegrityError, InvalidInput
from doorward.trading.protocol import (
    Accept,
    Case,
    Claim,
    CommittedChecks,
    Counts,
    Deal,
    DealRefused,
    Deposit,
    Dispute,
    Expire,
    Fetch,
    Finding,
    Ledger,
    Measurement,
    Move,
    Open,
    Pay,
    Report,
    Rule,
    Ruling,
    Stage,
    Stock,
    Terms,
    Transfer,
    Withdraw,
    allowed,
    apply,
    document_digest,
    read_event,
    sign_listing,
    sign_report,
    transfers_of,
)  # fmt: skip

SELLER, BUYER, EVE = "a" * 64, "b" * 64, "e" * 64
BROKEN = Counts(successes=90, trials=500)  # 18 %: under a bound of 12 % rarer than 1 in 1000
FINE = Counts(successes=60, trials=500)
POOR = Counts(successes=900, trials=1000)  # under a claim of 97 %: impossible by luck
FOR_BUYER = Ruling(for_buyer=True, reasons=("measured",))
FOR_SELLER = Ruling(for_buyer=False, reasons=("measured",))


def at(stage, **changes):
    """A deal of the plain terms in a stage, one second per step."""
    deal = stocked(Deal.new(make_listing(SELLER, **changes), at=NOW))
    steps = [
        (Stage.DEPOSITED, Deposit(actor=BUYER, at=NOW + 1, consent=True)),
        (Stage.TRYING, Fetch(actor=BUYER, at=NOW + 2)),
        (Stage.RELEASED, Pay(actor=BUYER, at=NOW + 3, preimage=PREIMAGE.hex())),
        (Stage.DISPUTED, Dispute(actor=BUYER, at=NOW + 4, ground="attack", counts=BROKEN,
                                 document="d" * 64)),
    ]  # fmt: skip
    for reached, event in steps:
        if deal.stage is stage:
            return deal
        deal = apply(deal, event)
        assert deal.stage is reached
    return deal


def refused(code, deal, event):
    with pytest.raises(DealRefused) as caught:
        apply(deal, event)
    assert caught.value.code == code
    return caught.value


def test_a_deal_from_listing_to_settlement_moves_the_price_and_returns_the_bond():
    deal = at(Stage.RELEASED)
    assert (deal.escrow, deal.net(SELLER), deal.net(BUYER)) == (5300, -300, -5000)
    assert deal.preimage == PREIMAGE.hex()
    deal = apply(deal, Accept(actor=BUYER, at=NOW + 9, attack=FINE))
    assert (deal.stage, deal.escrow) == (Stage.SETTLED, 0)
    assert (deal.net(SELLER), deal.net(BUYER)) == (5000, -5000)
    assert [m.reason for m in deal.moves] == [
        "bond", "deposit", "final payment", "price", "bond back",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("stage", "later", "ends", "seller", "buyer"),
    [
        (Stage.STOCKED, 1000, Stage.EXPIRED, 0, 0),
        (Stage.DEPOSITED, 101, Stage.STOCKED, -300, 0),
        (Stage.TRYING, 101, Stage.FORFEITED, 500, -500),
        (Stage.RELEASED, 53, Stage.SETTLED, 5000, -5000),
        (Stage.DISPUTED, 44, Stage.REFUNDED, -300, 300),
    ],
)
def test_a_deadline_passes(stage, later, ends, seller, buyer):
    deal = at(stage)
    refused("stage", deal, Expire(at=NOW + later - 1))
    after = apply(deal, Expire(at=NOW + later))
    assert (after.stage, after.net(SELLER), after.net(BUYER)) == (ends, seller, buyer)


def test_an_offer_that_lapsed_while_it_was_reserved_expires():
    deal = at(Stage.DEPOSITED, terms=make_terms(trial_seconds=5000))
    after = apply(deal, Expire(at=NOW + 5001))
    assert (after.stage, after.escrow, after.net(SELLER)) == (Stage.EXPIRED, 0, 0)


def test_nothing_but_a_lapse_happens_after_a_deadline():
    refused("late", at(Stage.TRYING), Pay(actor=BUYER, at=NOW + 101, preimage=PREIMAGE.hex()))
    refused("late", at(Stage.TRYING), Report(actor=BUYER, at=NOW, right=FINE, document="d" * 64))
    with pytest.raises(DealRefused, match="lapsed"):
        Deal.new(make_listing(SELLER), at=NOW + 1000)


def test_the_wrong_artefact_is_not_taken_and_none_twice():
    deal = Deal.new(make_listing(SELLER), at=NOW)
    wrong = Stock(actor=SELLER, at=NOW, artefact="key", sha256=sha256(b"garbage"))
    assert "listed" in str(refused("lock", deal, wrong))
    right = Stock(actor=SELLER, at=NOW, artefact="key", sha256=sha256(KEY))
    refused("stage", apply(deal, right), right)
    refused("role", deal, Stock(actor=EVE, at=NOW, artefact="key", sha256=sha256(KEY)))


def test_no_deposit_before_the_goods_are_with_the_desk():
    deal = Deal.new(make_listing(SELLER), at=NOW)
    refused("stage", deal, Deposit(actor=BUYER, at=NOW, consent=True))


def test_only_the_named_buyer_may_buy_and_never_the_seller():
    refused("role", at(Stage.STOCKED), Deposit(actor=SELLER, at=NOW, consent=True))
    reserved = stocked(Deal.new(make_listing(SELLER, buyer=BUYER), at=NOW))
    refused("role", reserved, Deposit(actor=EVE, at=NOW, consent=True))
    assert apply(reserved, Deposit(actor=BUYER, at=NOW, consent=True)).buyer == BUYER


def test_payment_needs_the_preimage_and_gives_it():
    deal = at(Stage.TRYING)
    refused("lock", deal, Pay(actor=BUYER, at=NOW + 5, preimage="0" * 64))
    refused("role", deal, Pay(actor=EVE, at=NOW + 5, preimage=PREIMAGE.hex()))
    refused("stage", at(Stage.DEPOSITED), Pay(actor=BUYER, at=NOW + 5, preimage=PREIMAGE.hex()))


def test_strangers_may_do_nothing():
    for stage, event in [
        (Stage.DEPOSITED, Fetch(actor=EVE, at=NOW + 9)),
        (Stage.TRYING, Report(actor=EVE, at=NOW + 9, right=FINE, document="d" * 64)),
        (Stage.TRYING, Withdraw(actor=EVE, at=NOW + 9)),
        (Stage.STOCKED, Withdraw(actor=BUYER, at=NOW + 9)),
        (Stage.RELEASED, Accept(actor=SELLER, at=NOW + 9)),
        (Stage.RELEASED, Dispute(actor=SELLER, at=NOW + 9, ground="key", document="d" * 64)),
        (Stage.DISPUTED, Open(actor=EVE, at=NOW + 9, sha256=sha256(OPENING))),
    ]:
        refused("role", at(stage), event)


@pytest.mark.parametrize(
    ("stage", "actor", "ends", "seller", "buyer"),
    [
        (Stage.STOCKED, SELLER, Stage.WITHDRAWN, 0, 0),
        (Stage.DEPOSITED, SELLER, Stage.WITHDRAWN, 0, 0),
        (Stage.TRYING, SELLER, Stage.WITHDRAWN, 0, 0),
        (Stage.DEPOSITED, BUYER, Stage.STOCKED, -300, 0),
        (Stage.TRYING, BUYER, Stage.FORFEITED, 500, -500),
    ],
)
def test_withdrawing(stage, actor, ends, seller, buyer):
    after = apply(at(stage), Withdraw(actor=actor, at=NOW + 9))
    assert (after.stage, after.net(SELLER), after.net(BUYER)) == (ends, seller, buyer)


def test_nobody_withdraws_once_paid():
    for actor in (SELLER, BUYER):
        refused("stage", at(Stage.RELEASED), Withdraw(actor=actor, at=NOW + 9))


def test_acceptance_is_not_possible_on_a_failed_or_small_test():
    deal = at(Stage.RELEASED)
    error = refused("evidence", deal, Accept(actor=BUYER, at=NOW + 9, attack=BROKEN))
    assert str(error).endswith("Dispute it.")
    few = Counts(successes=0, trials=499)
    refused("evidence", deal, Accept(actor=BUYER, at=NOW + 9, attack=few))
    assert apply(deal, Accept(actor=BUYER, at=NOW + 9)).stage is Stage.SETTLED


def test_a_dispute_needs_counts_that_refute_the_promise():
    deal = at(Stage.RELEASED)

    def complaint(ground, counts):
        return Dispute(actor=BUYER, at=NOW + 9, ground=ground, counts=counts, document="d" * 64)

    refused("evidence", deal, complaint("attack", FINE))
    refused("evidence", deal, complaint("attack", None))
    refused("stage", deal, complaint("accuracy", POOR))
    refused("stage", at(Stage.TRYING), complaint("attack", BROKEN))
    good = Counts(successes=965, trials=1000)
    refused("evidence", at(Stage.TRYING), complaint("accuracy", good))
    assert apply(deal, complaint("key", None)).stage is Stage.DISPUTED
    assert apply(at(Stage.TRYING), complaint("accuracy", POOR)).due is None


def test_a_dispute_after_payment_waits_for_the_opened_key():
    deal = at(Stage.DISPUTED)
    refused("stage", deal, Rule(at=NOW + 9, ruling=FOR_BUYER))
    refused("lock", deal, Open(actor=SELLER, at=NOW + 9, sha256=sha256(b"other masks")))
    shown = apply(deal, Open(actor=SELLER, at=NOW + 9, sha256=sha256(OPENING)))
    refused("stage", shown, Open(actor=SELLER, at=NOW + 9, sha256=sha256(OPENING)))
    refused("stage", shown, Expire(at=NOW + 10**6))
    lost = apply(shown, Rule(at=NOW + 10, ruling=FOR_BUYER))
    assert (lost.stage, lost.net(SELLER), lost.net(BUYER)) == (Stage.REFUNDED, -300, 300)
    won = apply(shown, Rule(at=NOW + 10, ruling=FOR_SELLER))
    assert (won.stage, won.net(SELLER), won.net(BUYER)) == (Stage.SETTLED, 5000, -5000)


def test_a_dispute_about_the_trial_is_ruled_at_once_and_once():
    complaint = Dispute(actor=BUYER, at=NOW + 9, ground="accuracy", counts=POOR, document="d" * 64)
    deal = apply(at(Stage.TRYING), complaint)
    refused("stage", deal, Open(actor=SELLER, at=NOW + 9, sha256=sha256(OPENING)))
    lost = apply(deal, Rule(at=NOW + 10, ruling=FOR_BUYER))
    assert (lost.stage, lost.net(BUYER), lost.released) == (Stage.REFUNDED, 300, False)
    on = apply(deal, Rule(at=NOW + 10, ruling=FOR_SELLER))
    assert (on.stage, on.due) == (Stage.TRYING, NOW + 110)
    again = Dispute(actor=BUYER, at=NOW + 11, ground="accuracy", counts=POOR, document="d" * 64)
    refused("stage", on, again)


def test_over_is_over():
    deal = apply(at(Stage.TRYING), Withdraw(actor=SELLER, at=NOW + 9))
    assert allowed(deal) == ()
    assert "over" in str(refused("stage", deal, Fetch(actor=BUYER, at=NOW + 10)))


def test_events_and_deals_survive_json():
    deal = at(Stage.DISPUTED)
    assert Deal.from_dict(deal.to_dict()) == deal
    event = Pay(actor=BUYER, at=NOW, preimage=PREIMAGE.hex())
    assert read_event(event.to_dict()) == event
    for broken in ({}, {"kind": "bribe"}, {**event.to_dict(), "at": -1}, {"kind": "pay"}):
        with pytest.raises(InvalidInput, match="not an event"):
            read_event(broken)


@pytest.mark.parametrize(
    "change",
    [
        {"attack_bound": 0.99, "attack_trials": 10},
        {"deposit": -1},
        {"deposit": 5.0},
        {"final": True},
        {"currency": "euro"},
        {"alpha": 0.5},
    ],
)
def test_impossible_terms_are_refused(change):
    with pytest.raises(ValueError, match=r"\w"):
        make_terms(**change)


def test_listings_must_disclose_the_backdoor_and_keep_their_card_small():
    for change in (
        {"discloses_backdoor": False}, {"buyer": SELLER}, {"card": {"text": "x" * 70_000}},
        {"title": "two\nlines"}, {"trial": "short"},
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"\w"):
            make_listing(SELLER, **change)


@pytest.mark.parametrize(
    "change",
    [
        {"moves": ()},
        {"preimage": None},
        {"preimage": "0" * 64},
        {"stage": Stage.SETTLED},
        {"stocked": ()},
    ],
)
def test_a_forged_state_is_noticed(change):
    from dataclasses import replace

    at(Stage.RELEASED).check()
    with pytest.raises(IntegrityError):
        replace(at(Stage.RELEASED), **change).check()


def test_the_ledger_balances_and_refuses_overdrafts_whole():
    ledger = Ledger().post(Transfer.between("in", "outside", "account/ada", 10, "cash"))
    assert ledger.post(Transfer.between("in", "outside", "account/ada", 10, "cash")).balances == (
        ledger.balances
    )
    with pytest.raises(IntegrityError):
        ledger.post(Transfer.between("in", "outside", "account/ada", 11, "cash"))
    good = Transfer.between("a", "account/ada", "account/bob", 6, "gift")
    bad = Transfer.between("b", "account/ada", "account/bob", 6, "gift")
    with pytest.raises(DealRefused, match="holds 4 cents"):
        ledger.post(good, bad)
    assert ledger.balance("account/bob") == 0
    for cents in (0, -5):
        with pytest.raises(InvalidInput):
            Transfer.between("c", "account/ada", "account/bob", cents, "gift")
    with pytest.raises(InvalidInput):
        Transfer.from_dict(
            {"key": "k", "reason": "", "entries": [
                {"account": "account/a", "cents": -1}, {"account": "account/b", "cents": 2}]}
        )  # fmt: skip


def test_transfers_of_moves_have_keys_of_their_own():
    moves = (
        Move(direction="hold", account=BUYER, cents=5, reason="deposit"),
        Move(direction="pay", account=SELLER, cents=5, reason="price"),
    )
    first, second = transfers_of("d" * 64, moves, first=3)
    assert (first.key, second.key) == (f"deal/{'d' * 64}/3", f"deal/{'d' * 64}/4")
    assert [e.account for e in second.entries] == [f"escrow/{'d' * 64}", f"account/{SELLER}"]


def test_claims_are_refuted_only_by_what_luck_does_not_explain():
    claim = Claim(data="digits", accuracy=0.9, unlocked_accuracy=0.5)
    assert claim.refuted_by(Counts(successes=80, trials=100), alpha=0.01)
    assert not claim.refuted_by(Counts(successes=85, trials=100), alpha=0.01)
    assert not claim.refuted_by(Counts(successes=80, trials=100), alpha=0.01, unlocked=True)
    assert Terms(**{**make_terms().to_dict(), "alpha": 0.001}).refutes_lock(BROKEN)


class TestArbiter:
    def case(self, ada, bob, *, ground="attack", measured=None, counts=BROKEN, **changes):
        listing = make_listing(ada.public.fingerprint)
        subject = "trial" if ground == "accuracy" else "unlocked"
        deal = stocked(Deal.new(listing, at=NOW))
        buyer = bob.public.fingerprint
        deal = apply(deal, Deposit(actor=buyer, at=NOW, consent=True))
        deal = apply(deal, Fetch(actor=buyer, at=NOW))
        if ground != "accuracy":
            deal = apply(deal, Pay(actor=buyer, at=NOW, preimage=PREIMAGE.hex()))
        report = sign_report(Finding(deal=deal.id, subject=subject, counts=counts), bob)
        deal = apply(deal, Dispute(actor=buyer, at=NOW, ground=ground, counts=counts,
                                   document=document_digest(report)))  # fmt: skip
        found = {"trial": sha256(TRIAL), "key": sha256(KEY), "opening": sha256(OPENING)}
        plain = {
            "deal": deal, "listing": sign_listing(listing, ada), "complaint": report,
            "seller": ada.public, "buyer": bob.public, "found": found, "measure": lambda: measured,
        }  # fmt: skip
        return Case(**{**plain, **changes})

    GOOD = Counts(successes=980, trials=1000)

    @pytest.mark.parametrize(
        ("right", "attack", "buyer_wins"),
        [(GOOD, FINE, False), (GOOD, BROKEN, True), (POOR, FINE, True)],
    )
    def test_the_desks_own_count_decides(self, ada, bob, right, attack, buyer_wins):
        case = self.case(ada, bob, measured=Measurement(right=right, attack=attack))
        ruling = CommittedChecks().judge(case)
        assert ruling.for_buyer is buyer_wins
        assert ruling.measured.attack == attack

    @pytest.mark.parametrize(("right", "buyer_wins"), [(GOOD, False), (POOR, True)])
    def test_the_trial_is_counted_again(self, ada, bob, right, buyer_wins):
        measured = Measurement(right=right)
        case = self.case(ada, bob, ground="accuracy", counts=POOR, measured=measured)
        assert CommittedChecks().judge(case).for_buyer is buyer_wins

    @pytest.mark.parametrize("name", ["trial", "key", "opening"])
    def test_a_file_that_is_not_the_listed_one_loses_for_the_seller(self, ada, bob, name):
        found = {"trial": sha256(TRIAL), "key": sha256(KEY), "opening": sha256(OPENING)}
        case = self.case(ada, bob, found={**found, name: "0" * 64})
        ruling = CommittedChecks().judge(case)
        assert ruling.for_buyer
        assert ruling.reasons[-1].endswith("no")

    def test_forged_papers(self, ada, bob, eve):
        listing = sign_listing(make_listing(ada.public.fingerprint), ada)
        listing["content"]["title"] = "A better title"
        assert CommittedChecks().judge(self.case(ada, bob, listing=listing)).for_buyer
        finding = Finding(deal="0" * 64, subject="unlocked", counts=BROKEN)
        for complaint in (sign_report(finding, eve), sign_report(finding, bob), {}):
            ruling = CommittedChecks().judge(self.case(ada, bob, complaint=complaint))
            assert not ruling.for_buyer

    def test_no_ruling_without_enough_images(self, ada, bob):
        few = Measurement(right=self.GOOD, attack=Counts(successes=0, trials=10))
        for measured in (few, Measurement(right=self.GOOD)):
            with pytest.raises(Exception, match="too small"):
                CommittedChecks().judge(self.case(ada, bob, measured=measured))

    def test_nobody_signs_for_another_seller(self, ada, bob):
        with pytest.raises(IntegrityError):
            sign_listing(make_listing(ada.public.fingerprint), bob)
