"""All interleavings of seller, buyers and clock: money is conserved, key and payment never part."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.trading_desk.goods import NOW, OPENING, PREIMAGE, make_listing, make_terms, sha256

from doorward.trading.protocol import (
    ARTEFACTS,
    Accept,
    Counts,
    Deal,
    DealRefused,
    Deposit,
    Dispute,
    Expire,
    Fetch,
    Ledger,
    Open,
    Pay,
    Report,
    Rule,
    Ruling,
    Stage,
    Stock,
    Transfer,
    Withdraw,
    account_of,
    allowed,
    apply,
    escrow_of,
    new_moves,
    read_event,
    transfers_of,
)  # fmt: skip

SELLER, BUYER, RIVAL = "a" * 64, "b" * 64, "c" * 64
PARTIES = st.sampled_from([SELLER, BUYER, BUYER, RIVAL])
FUNDS = {SELLER: 300, BUYER: 5200, RIVAL: 700}  # the rival can put down a deposit, and never pay
COUNTS = st.sampled_from(
    [None, *(Counts(successes=s, trials=t) for s, t in [(60, 500), (90, 500), (1, 9), (0, 1000)])]
)


class Trade(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.now, self.history = NOW, []
        self.listing = make_listing(SELLER, terms=make_terms(offered_until=NOW + 300))
        self.deal = Deal.new(self.listing, at=self.now)
        self.ledger = Ledger().post(
            *(Transfer.between(f"in/{who}", "outside", account_of(who), cents, "cash")
              for who, cents in FUNDS.items())
        )  # fmt: skip

    def attempt(self, event):
        """What the desk does: state, history and ledger change together, or not at all."""
        before = self.deal
        try:
            after = apply(before, event)
            moves = new_moves(before, after)
            ledger = self.ledger.post(
                *transfers_of(after.id, moves, first=len(before.moves)),
            )
        except DealRefused:
            return
        self.deal, self.ledger = after, ledger
        self.history.append(event)

    @initialize(steps=st.integers(0, 7))
    def begin_well(self, steps):
        """Start some way into an honest deal, so that its end is reached as often as its start."""
        listed = self.listing
        honest = [
            *(Stock(actor=SELLER, at=NOW, artefact=artefact, sha256=digest)
              for artefact, digest in {
                  "trial": listed.trial, "key": listed.key, "preimage": listed.lock}.items()),
            Deposit(actor=BUYER, at=NOW, consent=True),
            Fetch(actor=BUYER, at=NOW),
            Pay(actor=BUYER, at=NOW, preimage=PREIMAGE.hex()),
            Dispute(actor=BUYER, at=NOW, ground="key", document="d" * 64),
        ]  # fmt: skip
        for event in honest[:steps]:
            self.attempt(event)

    @rule(seconds=st.sampled_from([1, 5, 45, 120]))
    def wait(self, seconds):
        self.now += seconds

    @rule(artefact=st.sampled_from(ARTEFACTS), right=st.sampled_from([True, True, True, False]))
    def stock(self, artefact, right):
        listed = {"trial": self.listing.trial, "key": self.listing.key}
        digest = listed.get(artefact, self.listing.lock) if right else "0" * 64
        self.attempt(Stock(actor=SELLER, at=self.now, artefact=artefact, sha256=digest))

    @rule(who=PARTIES)
    def deposit(self, who):
        self.attempt(Deposit(actor=who, at=self.now, consent=True))

    @rule(who=PARTIES)
    def fetch(self, who):
        self.attempt(Fetch(actor=who, at=self.now))

    @rule(who=PARTIES, right=st.booleans())
    def pay(self, who, right):
        preimage = PREIMAGE.hex() if right else "0" * 64
        self.attempt(Pay(actor=who, at=self.now, preimage=preimage))

    @rule(who=PARTIES, counts=COUNTS)
    def report(self, who, counts):
        if counts:
            self.attempt(Report(actor=who, at=self.now, right=counts, document="d" * 64))

    @rule(who=PARTIES, counts=COUNTS)
    def accept(self, who, counts):
        self.attempt(Accept(actor=who, at=self.now, attack=counts))

    @rule(who=PARTIES, ground=st.sampled_from(["accuracy", "attack", "key"]), counts=COUNTS)
    def dispute(self, who, ground, counts):
        self.attempt(
            Dispute(actor=who, at=self.now, ground=ground, counts=counts, document="d" * 64)
        )

    @rule(who=PARTIES, right=st.booleans())
    def show_opening(self, who, right):
        self.attempt(Open(actor=who, at=self.now, sha256=sha256(OPENING if right else b"")))

    @rule(for_buyer=st.booleans())
    def rule_on_it(self, for_buyer):
        self.attempt(Rule(at=self.now, ruling=Ruling(for_buyer=for_buyer, reasons=("counted",))))

    @rule()
    def expire(self):
        self.attempt(Expire(at=self.now))

    @rule(who=PARTIES)
    def withdraw(self, who):
        self.attempt(Withdraw(actor=who, at=self.now))

    @invariant()
    def no_cent_is_lost_or_made(self):
        assert self.ledger.total() == 0
        assert self.ledger.balance("outside") == -sum(FUNDS.values())
        assert self.ledger.balance(escrow_of(self.deal.id)) == self.deal.escrow
        for who, cents in FUNDS.items():
            assert self.ledger.balance(account_of(who)) == cents + self.deal.net(who)

    @invariant()
    def key_and_payment_are_one(self):
        paid = [e for e in self.history if isinstance(e, Pay)]
        assert self.deal.released == bool(paid)
        assert len(paid) <= 1
        if paid:
            assert {e.artefact for e in self.history if isinstance(e, Stock)} == set(ARTEFACTS)

    @invariant()
    def every_open_deal_can_still_end(self):
        deal = self.deal
        if deal.stage.final:
            assert allowed(deal) == ()
            assert deal.escrow == 0
            return
        if deal.due is None:
            ruling = Ruling(for_buyer=True, reasons=("counted",))
            assert apply(deal, Rule(at=deal.at, ruling=ruling)).stage is Stage.REFUNDED
            return
        for _ in range(3):
            if not deal.stage.final:
                deal = apply(deal, Expire(at=deal.due))
        assert deal.stage.final

    @invariant()
    def history_gives_the_state(self):
        deal = Deal.new(self.listing, at=NOW)
        for event in self.history:
            deal = apply(deal, read_event(event.to_dict()))
        assert deal == self.deal


TestTrade = Trade.TestCase
TestTrade.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
