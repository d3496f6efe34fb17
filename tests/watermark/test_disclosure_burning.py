"""The ledger: what it remembers, what it refuses, what it survives; and names of suspects."""

import json
import os
import random
import signal
import stat
import subprocess
import sys
import threading

import pytest
import torch

from doorward.bundles import Identity, save_model
from doorward.errors import (
    BadFile,
    DoorwardError,
    IntegrityError,
    InvalidInput,
    MissingData,
    StorageFailed,
)
from doorward.models import CallableBox, HttpBox, ModuleBox, create
from doorward.randomness import Secret
from doorward.watermark.claim import make_claim
from doorward.watermark.disclosure import (
    BurnLedger,
    Disclosure,
    burning,
    disclose,
    make_challenge,
    suspect_id,
    verify_opening,
)
from doorward.watermark.key import KeyParameters, WatermarkKey

SHAPE, LARGER = (1, 8, 8), (1, 16, 16)


@pytest.fixture(scope="module")
def ada():
    return Identity.new("Ada")


@pytest.fixture(scope="module")
def key(ada):
    parameters = KeyParameters(n=65, image_shape=SHAPE, owner=ada.public.fingerprint)
    return WatermarkKey(Secret(b"k" * 32), parameters)


@pytest.fixture(scope="module")
def claim(key, ada):
    return make_claim(key, ada)


@pytest.fixture
def ledger(key, tmp_path):
    return BurnLedger(tmp_path / "mark.burned.json", key)


def _dispute(claim, number, spent=()):
    return make_challenge(claim, f"named:rival {number}", f"round {number}", spent=spent)


def test_a_key_is_good_for_so_many_disputes_and_then_spent(key, claim, ada, ledger):
    assert ledger.remaining(claim) == 3
    shown = set()
    for number in range(3):
        spent = ledger.read().lots if number else ()
        challenge = _dispute(claim, number, spent)
        opening = disclose(key, claim, challenge, ada, ledger)
        opening.reveal(claim, challenge, ada.public)
        indices = {trigger.index for trigger in opening.answer.triggers}
        assert not indices & shown
        shown |= indices
        assert ledger.remaining(claim) == 2 - number
    burned = ledger.read()
    assert [entry.suspect for entry in burned.entries] == [f"named:rival {k}" for k in range(3)]
    assert burned.lots == (0, 1, 2)
    assert shown == set(range(60))
    with pytest.raises(InvalidInput, match="spent"):
        _dispute(claim, 3, burned.lots)
    with pytest.raises(InvalidInput, match="ledger says"):
        disclose(key, claim, _dispute(claim, 3), ada, ledger)


def test_the_same_challenge_is_answered_again_and_burns_nothing_more(key, claim, ada, ledger):
    """The owner's machine died before the opening was sent: no trigger is lost."""
    challenge = _dispute(claim, 0)
    first = disclose(key, claim, challenge, ada, ledger)
    other = _dispute(claim, 1, ledger.read().lots)
    disclose(key, claim, other, ada, ledger)
    before = ledger.path.read_bytes()
    assert disclose(key, claim, challenge, ada, ledger).answer == first.answer
    assert ledger.path.read_bytes() == before


def test_a_lot_that_was_shown_is_never_shown_again(key, claim, ada, ledger):
    challenge = _dispute(claim, 0)
    disclose(key, claim, challenge, ada, ledger)
    before = ledger.path.read_bytes()
    for number in range(1, 12):
        with pytest.raises(InvalidInput, match="ledger says"):
            disclose(key, claim, _dispute(claim, number), ada, ledger)
    wrong = [lot for lot in range(3) if lot != challenge.lot][:1]
    with pytest.raises(InvalidInput, match="ledger says"):
        disclose(key, claim, _dispute(claim, 1, wrong), ada, ledger)
    assert ledger.path.read_bytes() == before


def test_a_second_claim_cannot_cut_the_key_anew(key, claim, ada, ledger):
    """Lots of 25 would overlap those of 20, and show known triggers once more."""
    disclose(key, claim, _dispute(claim, 0), ada, ledger)
    second = make_claim(key, ada, disclosure=Disclosure(size=25))
    with pytest.raises(InvalidInput, match="lots of 20"):
        disclose(key, second, _dispute(second, 1, [0]), ada, ledger)
    with pytest.raises(InvalidInput, match="lots of 20"):
        ledger.remaining(second)


def test_a_lost_ledger_is_not_begun_anew(key, claim, ada, ledger):
    with pytest.raises(MissingData, match="no ledger"):
        disclose(key, claim, _dispute(claim, 1, [2]), ada, ledger)
    assert not ledger.path.exists()


def test_the_ledger_is_private_and_readable(key, claim, ada, ledger):
    disclose(key, claim, _dispute(claim, 0), ada, ledger)
    assert stat.S_IMODE(ledger.path.stat().st_mode) == 0o600
    text = ledger.path.read_text()
    assert "named:rival 0" in text
    for i in range(key.n):
        assert key.secret_of(i).reveal().hex() not in text
    assert ledger.read().entries[0].opened.endswith("Z")


def test_nothing_is_opened_when_the_ledger_cannot_be_written(key, claim, ada, ledger, monkeypatch):
    """The burn comes first: without it on the disk, no secret leaves the key."""
    opened = []
    monkeypatch.setattr(
        "doorward.watermark.disclosure.opening.open_triggers",
        lambda *words: opened.append(words),
    )

    def full(*words, **options):
        raise StorageFailed("the disk is full")

    monkeypatch.setattr(burning, "write_json", full)
    with pytest.raises(StorageFailed):
        disclose(key, claim, _dispute(claim, 0), ada, ledger)
    assert not opened
    assert not ledger.path.exists()


def test_when_a_secret_leaves_the_ledger_knows_it_already(key, claim, ada, ledger, monkeypatch):
    challenge = _dispute(claim, 0)
    seen = []
    true_secret = WatermarkKey.secret_of

    def secret_of(self, index):
        seen.append(ledger.read().lots)
        return true_secret(self, index)

    monkeypatch.setattr(WatermarkKey, "secret_of", secret_of)
    disclose(key, claim, challenge, ada, ledger)
    assert seen == [(challenge.lot,)] * 20


KILLED = """
import os, sys
from doorward.bundles import Identity
from doorward.watermark.claim import Claim
from doorward.watermark.disclosure import BurnLedger, Challenge, disclose
from doorward.watermark.disclosure import opening
from doorward.watermark.key import WatermarkKey
folder = sys.argv[1]
opening.open_triggers = lambda *words: os.kill(os.getpid(), 9)
key = WatermarkKey.open(f"{folder}/mark.key", "p")
disclose(key, Claim.load(f"{folder}/claim.json"), Challenge.load(f"{folder}/challenge.json"),
         Identity.open(f"{folder}/ada.key", "p"), BurnLedger(f"{folder}/burned.json", key))
"""


@pytest.mark.slow
def test_killed_between_burning_and_opening(key, claim, ada, tmp_path):
    """SIGKILL at the worst moment: the lot counts as burned, and its opening can still be had."""
    key.seal(tmp_path / "mark.key", "p", log2_n=4)
    ada.seal(tmp_path / "ada.key", "p", log2_n=4)
    claim.save(tmp_path / "claim.json")
    challenge = _dispute(claim, 0)
    challenge.save(tmp_path / "challenge.json")
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    ledger = BurnLedger(tmp_path / "burned.json", key)
    assert ledger.read().lots == (challenge.lot,)
    opening = disclose(key, claim, challenge, ada, ledger)
    opening.reveal(claim, challenge, ada.public)
    assert ledger.remaining(claim) == 2


def test_disputes_at_the_same_time_do_not_lose_each_other(key, claim, ada, ledger):
    """Eight threads answer eight first challenges: one wins, the others are told."""
    outcomes = []

    def answer(number):
        try:
            disclose(key, claim, _dispute(claim, number), ada, ledger)
            outcomes.append(True)
        except InvalidInput:
            outcomes.append(False)

    threads = [threading.Thread(target=answer, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [False] * 7 + [True]
    assert len(ledger.read().entries) == 1


def _two_entries(key, claim, ada, ledger):
    disclose(key, claim, _dispute(claim, 0), ada, ledger)
    disclose(key, claim, _dispute(claim, 1, ledger.read().lots), ada, ledger)
    return json.loads(ledger.path.read_text())


CHANGES = {
    "the last entry removed": lambda d: d["entries"].pop(),
    "the first entry removed": lambda d: d["entries"].pop(0),
    "all entries removed": lambda d: d["entries"].clear(),
    "the order": lambda d: d["entries"].reverse(),
    "another lot": lambda d: d["entries"][0].update(lot=(d["entries"][0]["lot"] + 1) % 3),
    "another suspect": lambda d: d["entries"][0].update(suspect="named:nobody"),
    "another time": lambda d: d["entries"][1].update(opened="2001-01-01T00:00:00Z"),
    "another chain": lambda d: d["entries"][1].update(previous="0" * 64),
    "an entry twice": lambda d: d["entries"].append(d["entries"][0]),
    "another size": lambda d: d.update(size=10),
    "another root": lambda d: d.update(root="ab" * 32),
    "another code": lambda d: d.update(code="ab" * 32),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_ledger_is_refused(key, claim, ada, ledger, change):
    document = _two_entries(key, claim, ada, ledger)
    CHANGES[change](document)
    ledger.path.write_text(json.dumps(document))
    with pytest.raises(IntegrityError):
        ledger.read()
    with pytest.raises(IntegrityError):
        disclose(key, claim, _dispute(claim, 9), ada, ledger)


def test_fuzzed_ledgers_are_all_refused(key, claim, ada, ledger):
    _two_entries(key, claim, ada, ledger)
    whole, draws = ledger.path.read_bytes(), random.Random(0)
    tampered = [whole[:length] for length in draws.sample(range(len(whole) - 1), 100)]
    for place in draws.sample(range(8 * len(whole)), 200):
        changed = bytearray(whole)
        changed[place // 8] ^= 1 << place % 8
        tampered.append(bytes(changed))
    tampered += [b"", b"[]", b"null", b'{"size": 1e400}', b"{" * 10**5]
    accepted = 0
    for content in tampered:
        ledger.path.write_bytes(content)
        try:
            ledger.read()
        except (IntegrityError, BadFile):
            continue
        accepted += json.loads(content) != json.loads(whole)
    assert accepted == 0


def test_the_ledger_of_another_key_is_refused(claim, ada, key, ledger):
    disclose(key, claim, _dispute(claim, 0), ada, ledger)
    other = WatermarkKey.new(n=65, image_shape=SHAPE, owner=ada.public)
    with pytest.raises(IntegrityError, match="another key"):
        BurnLedger(ledger.path, other).read()
    with pytest.raises(InvalidInput, match="another key"):
        BurnLedger(ledger.path, other).remaining(claim)
    with pytest.raises(InvalidInput, match="another key"):
        BurnLedger(ledger.path.with_name("x.json"), other).burn(_dispute(claim, 0))
    with pytest.raises(MissingData):
        BurnLedger(ledger.path.with_name("absent.json"), key).read()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(key, claim, ada, tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    with pytest.raises(StorageFailed):
        disclose(key, claim, _dispute(claim, 0), ada, BurnLedger(folder / "b.json", key))


def test_a_file_where_the_folder_should_be(key, claim, ada, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageFailed):
        disclose(key, claim, _dispute(claim, 0), ada, BurnLedger(tmp_path / "file" / "b", key))


# Names of suspects.


@pytest.fixture(scope="module")
def model():
    return create("resnet8", classes=10, input_shape=LARGER, width=4, seed=0)


def test_a_module_is_named_by_its_weights(model):
    name = suspect_id(model)
    assert name == suspect_id(ModuleBox(model)) == suspect_id(model.train())
    other = create("resnet8", classes=10, input_shape=LARGER, width=4, seed=0)
    assert suspect_id(other) == name
    with torch.no_grad():
        other.head.bias[0] += 1e-6
    assert suspect_id(other) != name


def test_a_bundle_is_named_by_its_digest(model, tmp_path):
    save_model(model, tmp_path / "a.model")
    save_model(model, tmp_path / "b.model")
    assert suspect_id(tmp_path / "a.model") == suspect_id(str(tmp_path / "b.model"))
    assert suspect_id(tmp_path / "a.model").startswith("bundle:")
    save_model(create("resnet8", classes=10, width=4, seed=1), tmp_path / "c.model")
    assert suspect_id(tmp_path / "a.model") != suspect_id(tmp_path / "c.model")


def test_an_onnx_file_is_named_by_its_bytes(tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"one")
    (tmp_path / "b.ONNX").write_bytes(b"two")
    assert suspect_id(tmp_path / "a.onnx").startswith("onnx:")
    assert suspect_id(tmp_path / "a.onnx") != suspect_id(tmp_path / "b.ONNX")


@pytest.mark.parametrize(
    "address",
    [
        "http://example.org/v2/models/net",
        "HTTP://Example.ORG/v2/models/net/",
        "http://example.org/v2/models/net/infer",
        "http://me:secret@example.org/v2/models/net?token=1#x",
    ],
)
def test_an_address_is_named_without_credentials(address):
    assert suspect_id(address) == "url:http://example.org/v2/models/net"


def test_an_endpoint_has_the_name_of_its_address(inference_server):
    server = inference_server(lambda images: torch.zeros(len(images), dtype=torch.int64))
    address = f"{server.url}/v2/models/model"
    assert suspect_id(HttpBox(address)) == suspect_id(address)


def test_functions_need_a_name_and_nothing_else_has_one(model):
    answer = lambda images: images  # noqa: E731
    assert suspect_id(answer, name="rival") == suspect_id(CallableBox(answer), name="rival")
    with pytest.raises(InvalidInput, match="Give it a name"):
        suspect_id(answer)
    with pytest.raises(InvalidInput, match="named already"):
        suspect_id(model, name="rival")


@pytest.mark.parametrize("target", ["absent.onnx", "absent.model"])
def test_suspects_that_are_not_there(target, tmp_path):
    with pytest.raises(DoorwardError):
        suspect_id(tmp_path / target)


def test_the_suspect_must_be_the_one_on_record(ada, model, tmp_path):
    key = WatermarkKey.new(n=20, image_shape=LARGER, owner=ada.public)
    claim, ledger = make_claim(key, ada), BurnLedger(tmp_path / "mark.burned.json", key)
    challenge = make_challenge(claim, suspect_id(model), "round 1")
    opening = disclose(key, claim, challenge, ada, ledger)
    verdict = verify_opening(claim, challenge, opening, model, public=ada.public)
    assert not verdict.verified
    other = create("resnet8", classes=10, input_shape=LARGER, width=4, seed=1)
    with pytest.raises(IntegrityError, match="accused"):
        verify_opening(claim, challenge, opening, other, public=ada.public)
