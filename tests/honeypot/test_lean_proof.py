"""The proof: exact against enumeration, level kept, copies found, papers that cannot be bent."""

from __future__ import annotations

import copy
import itertools
import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from doorward.bundles import Identity
from doorward.data import ImageData
from doorward.errors import BadFile, IntegrityError, InvalidInput, ModelUnsuitable
from doorward.honeypot.lean import Entry, LeanKey, LeanParameters, Menu, amplitudes
from doorward.honeypot.proof import (
    LeanClaim,
    Transcript,
    at_least,
    check_transcript,
    control_p_value,
    examine,
    make_claim,
    rank_log2_p,
    sequential_log2_p,
    verify_substitute,
)
from doorward.honeypot.proof.asking import Told, curve, hits, join
from doorward.honeypot.proof.rank import Look
from doorward.randomness import Secret

SHAPE = (1, 16, 16)
MENU = Menu(
    classes=10,
    image_shape=SHAPE,
    entries=tuple(
        Entry(across=u, down=v, targets=tuple(range(10))) for u in (2, 4, 6) for v in (0, 3)
    ),
)
ADA, JUDGE = Identity.new("Ada"), Identity.new("Judge")
KEY = LeanKey(Secret(bytes(32)), LeanParameters(bits=3, owner=ADA.public.fingerprint))
CLAIM = make_claim(KEY, MENU, ADA)


class Listener:
    """A suspect that has learnt a key's waves: loud ones get their class, others one of no wave."""

    def __init__(self, key, share=1.0):
        self.bits = key.choose(MENU)
        self.usual = min(set(range(10)) - {bit.target for bit in self.bits})
        self.share = share
        self.asked = 0

    def __call__(self, images):
        self.asked += len(images)
        loud = amplitudes(images, [(b.across, b.down) for b in self.bits])
        answers = torch.full((len(images),), self.usual)
        for place, bit in enumerate(self.bits):
            hears = loud[:, place] > 30 / 255
            hears &= torch.arange(len(images)) < self.share * len(images)
            answers[hears] = bit.target
        return answers


@pytest.fixture(scope="module")
def grey():
    """Flat images: nothing in them that sounds like a wave."""
    return ImageData(
        torch.full((64, *SHAPE), 128, dtype=torch.uint8),
        torch.arange(64) % 10,
        tuple(map(str, range(10))),
    )


# the exact test


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_ranks_are_those_of_enumeration(data):
    some = st.sets(st.integers(0, 2), min_size=1).map(lambda found: tuple(sorted(found)))
    entries = [
        Entry(across=2 + n, down=0, targets=data.draw(some))
        for n in range(data.draw(st.integers(1, 4)))
    ]
    menu = Menu(classes=3, image_shape=SHAPE, entries=tuple(entries))
    bits = data.draw(st.integers(1, len(entries)))
    found = data.draw(
        st.lists(st.lists(st.integers(0, 5), min_size=3, max_size=3),
                 min_size=len(entries), max_size=len(entries))
    )  # fmt: skip
    every = []
    for rows in itertools.combinations(range(len(entries)), bits):
        for targets in itertools.product(*(entries[row].targets for row in rows)):
            every.append(sum(found[r][t] for r, t in zip(rows, targets, strict=True)))
    score = data.draw(st.sampled_from(every))
    more = sum(other >= score for other in every)
    assert menu.keys(bits) == len(every)
    assert at_least(menu, bits, found, score) == more
    assert rank_log2_p(menu, bits, found, score) == pytest.approx(math.log2(more / len(every)))


@given(st.lists(st.lists(st.integers(0, 4), min_size=12, max_size=12), min_size=2, max_size=2))
@settings(max_examples=20, deadline=None)
def test_no_suspect_is_accused_more_often_than_the_level_says(answers):
    # Over all keys, whatever the suspect answers at the first look and then until the second.
    menu = Menu(
        classes=3,
        image_shape=SHAPE,
        entries=tuple(Entry(across=2 + n, down=0, targets=(0, 1, 2)) for n in range(4)),
    )
    rows = [[numbers[3 * n : 3 * n + 3] for n in range(4)] for numbers in answers]
    both = [[a + b for a, b in zip(*pair, strict=True)] for pair in zip(*rows, strict=True)]
    levels = []
    for first, second in itertools.combinations(range(4), 2):
        for s, t in itertools.product(range(3), repeat=2):
            looks = [
                Look(images, rank_log2_p(menu, 2, found, found[first][s] + found[second][t]))
                for images, found in ((1, rows[0]), (2, both))
            ]
            levels.append(2 ** sequential_log2_p(looks, 2))
    for level in set(levels):
        assert sum(p <= level for p in levels) / len(levels) <= level + 1e-12


def test_stopping_early_is_paid_for():
    looks = [Look(8, -12.0), Look(16, -4.0)]
    assert sequential_log2_p(looks, 4) == -10.0
    assert sequential_log2_p(looks[1:], 32) == 0.0
    with pytest.raises(InvalidInput):
        sequential_log2_p(looks, 1)
    with pytest.raises(InvalidInput):
        sequential_log2_p([], 1)


def test_controls_are_ranked_as_models():
    assert control_p_value(0.5, []) is None
    assert control_p_value(0.5, [0.5, 0.4, 0.1]) == 0.5
    assert control_p_value(0.9, [0.1] * 19) == pytest.approx(0.05)


def test_hits_leave_out_what_was_there_before():
    told = Told(clean=(0, 1, 2), waved=((1, 1, 1, 2, 1, 1),))
    # Amplitude 1: all three answer 1, of which only images 0 and 2 count; amplitude 2: image 2.
    assert hits(told, (0, 0, 0), classes=3, amplitudes=2) == [[0, 3, 1]]
    assert curve(told, (0, 0, 0), [1], classes=3, amplitudes=2) == (1.0, 0.5)
    assert curve(told, (1, 1, 1), [1], classes=3, amplitudes=2) == (0.0, 0.0)
    both = join(told, Told(clean=(0,), waved=((2, 0),)), 2)
    assert both == Told(clean=(0, 1, 2, 0), waved=((1, 1, 1, 2, 2, 1, 1, 0),))
    with pytest.raises(InvalidInput):
        hits(told, (0, 0), classes=3, amplitudes=2)
    with pytest.raises(InvalidInput):
        hits(told, (0, 0, 0), classes=2, amplitudes=2)


# known answers


def test_a_copy_is_found_early_and_an_innocent_is_not(grey):
    thief = Listener(KEY)
    verdict = verify_substitute(CLAIM, KEY, thief, grey, public=ADA.public)
    assert verdict.verified
    assert (verdict.images, verdict.planned) == (8, 64)
    assert verdict.queries == thief.asked == 8 * (1 + 3 * 6)
    assert verdict.log2_p == pytest.approx(math.log2(4 / 20_000))
    assert verdict.success[0] == 0
    assert verdict.success[1:] == (1.0, 1.0)
    assert verdict.explain().startswith("VERIFIED. Ada committed to 3 secret waves")
    other = LeanKey(Secret(bytes([7]) * 32), KEY.parameters)
    innocent = verify_substitute(CLAIM, KEY, Listener(other), grey, public=ADA.public)
    assert not innocent.verified
    assert "NOT VERIFIED" in innocent.explain()


def test_more_looks_are_taken_where_the_first_does_not_tell(grey):
    weak = Listener(KEY)
    weak.bits = weak.bits[:1]  # one wave of three was learnt
    verdict = verify_substitute(CLAIM, KEY, weak, grey, public=ADA.public)
    assert not verdict.verified
    assert [images for images, _ in verdict.looks] == [8, 16, 32, 64]
    assert verdict.looks[0][1] == pytest.approx(math.log2(0.05))  # 1 of 60 pairs, in 3 draws


def test_it_must_exceed_every_control(grey):
    honest = [lambda images: torch.zeros(len(images), dtype=torch.int64)] * 3
    verdict = verify_substitute(CLAIM, KEY, Listener(KEY), grey, honest, public=ADA.public)
    assert verdict.verified
    assert (verdict.control_success, verdict.control_p) == ((0.0, 0.0, 0.0), 0.25)
    alike = [*honest, Listener(KEY)]
    verdict = verify_substitute(CLAIM, KEY, Listener(KEY), grey, alike, public=ADA.public)
    assert not verdict.verified
    assert verdict.control_p == pytest.approx(2 / 5)
    assert verdict.log2_p == 0, "nothing exceeds a control that does the same"


def test_what_any_model_does_is_no_evidence(grey):
    # A key that drew waves which all models tie to its classes; the suspect does so a bit more.
    everybody, suspect = Listener(KEY, share=0.5), Listener(KEY, share=0.52)
    alone = verify_substitute(CLAIM, KEY, suspect, grey, public=ADA.public)
    assert alone.verified, "without controls it cannot be told"
    verdict = verify_substitute(CLAIM, KEY, suspect, grey, [everybody], public=ADA.public)
    assert not verdict.verified
    assert verdict.mean_success < verdict.control_success[0] + CLAIM.statement.margin
    # Exceeding them by far counts, though the controls do it too.
    verdict = verify_substitute(CLAIM, KEY, Listener(KEY), grey, [everybody], public=ADA.public)
    assert verdict.verified


# papers


def test_another_key_opens_nothing(grey):
    suspect = Listener(KEY)
    for other in (
        LeanKey(Secret(bytes([1]) * 32), KEY.parameters),
        LeanKey(Secret(bytes(32)), LeanParameters(bits=2, owner=ADA.public.fingerprint)),
    ):
        found = examine(CLAIM, other, suspect, grey, public=ADA.public)
        assert not found.verdict.verified
        assert not found.verdict.commitment_opened
        assert "not asked" in found.verdict.explain()
        with pytest.raises(InvalidInput, match="vouch"):
            Transcript.sign(found, JUDGE)
    assert suspect.asked == 0


def _menu(document):
    document["content"]["menu"]["entries"][0]["targets"] = [0]


def _alpha(document):
    document["content"]["log2_alpha"] = -1.0


def _signer(document):
    document["signer"] = JUDGE.public.to_dict()


@pytest.mark.parametrize("change", [_menu, _alpha, _signer])
def test_a_changed_claim_is_refused(change, grey):
    document = copy.deepcopy(dict(CLAIM.document))
    change(document)
    with pytest.raises(IntegrityError):
        LeanClaim.from_document(document).check(ADA.public)
    with pytest.raises(IntegrityError):
        verify_substitute(
            LeanClaim.from_document(document), KEY, Listener(KEY), grey, public=ADA.public
        )


def test_claims_and_transcripts_survive_their_files(tmp_path, grey):
    CLAIM.save(tmp_path / "claim.json")
    assert LeanClaim.load(tmp_path / "claim.json", ADA.public).digest() == CLAIM.digest()
    found = examine(tmp_path / "claim.json", KEY, Listener(KEY), grey, public=ADA.public)
    Transcript.sign(found, JUDGE).save(tmp_path / "minutes.json")
    known = {"public": ADA.public, "verifier": JUDGE.public}
    again = check_transcript(
        tmp_path / "minutes.json", tmp_path / "claim.json", KEY, clean=grey, **known
    )
    assert again == found.verdict
    assert Transcript.load(tmp_path / "minutes.json", JUDGE.public).verifier == JUDGE.public
    with pytest.raises(IntegrityError):
        Transcript.load(tmp_path / "minutes.json", ADA.public)
    for name, load in (("claim.json", LeanClaim.load), ("minutes.json", Transcript.load)):
        content = (tmp_path / name).read_bytes()
        for damaged in (content[:-40], b"[]", content.replace(b"doorward-signed", b"other")):
            (tmp_path / name).write_bytes(damaged)
            with pytest.raises((BadFile, IntegrityError)):
                load(tmp_path / name)
    assert b"Secret" not in json.dumps(dict(CLAIM.document)).encode()


def test_a_false_transcript_is_seen_through(grey):
    found = examine(CLAIM, KEY, Listener(KEY), grey, public=ADA.public)
    known = {"public": ADA.public, "verifier": JUDGE.public}
    for change in ("verdict", "answers", "truth", "claim"):
        content = Transcript.sign(found, JUDGE).minutes.to_dict()
        if change == "verdict":
            content["verdict"]["log2_p"] -= 1
        elif change == "answers":
            content["told"]["waved"] = [[0] * len(row) for row in content["told"]["waved"]]
        elif change == "truth":
            content["truth"] = [9] * len(content["truth"])
        else:
            content["claim"] = "0" * 64
        from doorward.bundles import sign_document

        forged = Transcript.from_document(
            sign_document(content, JUDGE, purpose="honeypot-lean-transcript")
        )
        with pytest.raises(IntegrityError):
            check_transcript(forged, CLAIM, KEY, clean=grey, **known)
    other = LeanKey(Secret(bytes([1]) * 32), KEY.parameters)
    with pytest.raises(IntegrityError, match="commitment"):
        check_transcript(Transcript.sign(found, JUDGE), CLAIM, other, **known)


def test_bad_calls_are_refused_before_anything_is_asked(grey):
    suspect = Listener(KEY)
    call = {"public": ADA.public}
    with pytest.raises(InvalidInput, match="last look"):
        verify_substitute(CLAIM, KEY, suspect, grey.subset(range(20)), **call)
    with pytest.raises(InvalidInput, match="the claim is about"):
        verify_substitute(CLAIM, KEY, suspect, grey.resized(8), **call)
    with pytest.raises(InvalidInput, match="out of reach"):
        verify_substitute(CLAIM, KEY, suspect, grey, alpha=1e-6, **call)
    with pytest.raises(InvalidInput, match="alpha"):
        verify_substitute(CLAIM, KEY, suspect, grey, alpha=0.0, **call)
    assert suspect.asked == 0
    with pytest.raises(ModelUnsuitable):
        verify_substitute(CLAIM, KEY, lambda images: torch.full((len(images),), 10), grey, **call)
    with pytest.raises(InvalidInput, match="not made for"):
        make_claim(KEY, MENU, JUDGE)
    with pytest.raises(InvalidInput, match="out of reach"):
        make_claim(KEY, MENU, ADA, alpha=1e-9)
    for wrong in ({"looks": (8, 4)}, {"amplitudes": ()}, {"amplitudes": (2.0,)}, {"looks": ()}):
        with pytest.raises(InvalidInput):
            make_claim(KEY, MENU, ADA, **wrong)
