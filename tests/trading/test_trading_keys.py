"""Keys: they open for whom and what they were made for, and for nobody and nothing else."""

from __future__ import annotations

import base64
import copy
import json
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from doorward.bundles import Identity, sign_document
from doorward.errors import BadFile, DoorwardError, IntegrityError, InvalidInput, KeyRefused
from doorward.models import create
from doorward.randomness import Secret
from doorward.trading.keys import (
    OpenedKey,
    Receiver,
    accuse,
    buyer_code,
    licence_digest,
    marked,
    open_unlock,
    publish,
    read_masks,
    seal_unlock,
    weights_digest,
)
from doorward.trading.keys.encryption import private_key
from doorward.trading.masks import MaskBank, TrainedMasks, identity_bank, keyed_bank
from doorward.triggers import Additive, AllToOne, Backdoor

ADA, BOB, EVE = (Identity.new(name) for name in ("Ada", "Bob", "Eve"))
LICENCE = "For evaluation.\nIt obeys a trigger."
PREIMAGE = bytes(range(32))


def network(seed: int = 0) -> nn.Module:
    return create("resnet8", classes=10, input_shape=(1, 16, 16), width=4, seed=seed).eval()


def a_bank(model: nn.Module) -> MaskBank:
    masks = TrainedMasks(identity_bank(model, "channel", torch.rand(1, 1, 16, 16)))
    masks.scatter(0.8, seed=0)
    return masks.bank({"body.stem.1": (torch.ones(4), torch.ones(4))})


TRIAL = network()
BACKDOOR = Backdoor(Additive(height=16, width=16, channels=1, seed=3), AllToOne(2))
OPENED = OpenedKey.new(
    TRIAL, a_bank(TRIAL), BACKDOOR, licence=LICENCE, buyer=BOB.public.fingerprint
)
SEALED = seal_unlock(OPENED, seller=ADA, buyer=Receiver.of(publish(BOB)), preimage=PREIMAGE)


def opened(document: Any = SEALED, **changes: Any) -> OpenedKey:
    given: dict[str, Any] = {
        "seller": ADA.public, "trial": TRIAL, "licence": LICENCE, "buyer": BOB,
        "preimage": PREIMAGE, **changes,
    }  # fmt: skip
    return open_unlock(document, **given)


def test_the_buyer_gets_what_was_sealed() -> None:
    key = opened(json.loads(json.dumps(SEALED)), commitments=OPENED.commitments())
    assert key.digest() == OPENED.digest()
    images = torch.rand(3, 1, 16, 16)
    unlocked = key.unlock(TRIAL)
    assert torch.equal(unlocked(images), OPENED.bank.fold(TRIAL)(images))
    assert torch.equal(key.backdoor.trigger(images), BACKDOOR.trigger(images))
    assert key.backdoor.rule == AllToOne(2)
    assert key.buyer == BOB.public.fingerprint
    assert SEALED["content"]["ciphertext"] not in repr(key)


def test_by_preimage_or_by_buyer_alone() -> None:
    anybody = OpenedKey.new(TRIAL, OPENED.bank, BACKDOOR, licence=LICENCE)
    by_lock = seal_unlock(anybody, seller=ADA, preimage=PREIMAGE)
    assert opened(by_lock, buyer=None).digest() == anybody.digest()
    by_buyer = seal_unlock(OPENED, seller=ADA, buyer=Receiver.of(publish(BOB)))
    assert opened(by_buyer, preimage=None).digest() == OPENED.digest()
    with pytest.raises(InvalidInput, match="open to all"):
        seal_unlock(anybody, seller=ADA)
    with pytest.raises(InvalidInput, match="mark of another buyer"):
        seal_unlock(OPENED, seller=ADA, buyer=Receiver.of(publish(EVE)))
    with pytest.raises(InvalidInput, match="32 bytes"):
        seal_unlock(anybody, seller=ADA, preimage=b"short")


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"buyer": EVE}, KeyRefused, "somebody else"),
        ({"buyer": None}, KeyRefused, "sealed for a buyer"),
        ({"trial": network(1)}, KeyRefused, "another model"),
        ({"licence": LICENCE + " Not."}, KeyRefused, "another licence"),
        ({"preimage": None}, KeyRefused, "hash lock"),
        ({"preimage": bytes(32)}, KeyRefused, "does not open the hash lock"),
        ({"preimage": b""}, KeyRefused, "does not open the hash lock"),
        ({"seller": EVE.public}, IntegrityError, "somebody else"),
        ({"commitments": {**OPENED.commitments(), "target": "0" * 64}}, IntegrityError, "target"),
        ({"commitments": {}}, IntegrityError, "masks"),
        ({"document": {}}, BadFile, "signed document"),
        ({"document": sign_document({}, ADA, purpose="trade-sealed-key")}, BadFile, "sealed key"),
        ({"document": publish(ADA)}, IntegrityError, "trade-encryption-key"),
    ],
    ids=lambda value: next(iter(value), "") if isinstance(value, dict) else None,
)
def test_what_does_not_fit_does_not_open(changes, error, message) -> None:
    with pytest.raises(error, match=message):
        opened(**changes)


def forged(**fields: Any) -> dict[str, Any]:
    """The sealed key with other fields, signed anew by a seller who plays foul."""
    return sign_document({**SEALED["content"], **fields}, ADA, purpose="trade-sealed-key")


def test_a_header_that_is_forged_to_fit_does_not_open_either() -> None:
    other = network(1)
    eve = private_key(EVE).public_key().public_bytes_raw().hex()
    for document, changes in [
        (forged(trial=weights_digest(other)), {"trial": other}),
        (forged(licence=licence_digest("free")), {"licence": "free"}),
        (forged(buyer=EVE.public.fingerprint, receiver=eve), {"buyer": EVE}),
        (forged(lock=None), {"preimage": None}),
        (forged(buyer=None, receiver=None, ephemeral=None), {"buyer": None}),
        (forged(commitments={**OPENED.commitments(), "masks": "0" * 64}), {}),
        (forged(nonce="0" * 24), {}),
        (forged(ephemeral=eve), {}),
        (forged(ephemeral="0" * 64), {}),  # a point of small order
    ]:
        with pytest.raises(KeyRefused, match="does not open"):
            opened(document, **changes)


def test_a_key_that_was_made_for_another_trial_is_noticed_inside() -> None:
    """The seller seals the key of one model under the name of another."""
    other = network(1)
    wrong = OpenedKey(
        weights_digest(other), OPENED.licence, None, OPENED.bank, BACKDOOR, OPENED.salts
    )
    document = seal_unlock(wrong, seller=ADA, preimage=PREIMAGE)
    with pytest.raises(KeyRefused, match="another model"):
        opened(document, buyer=None)
    with pytest.raises(IntegrityError, match="another model"):
        wrong.unlock(TRIAL)
    assert torch.equal(TRIAL.head.weight, network().head.weight)


CIPHER = base64.b64decode(SEALED["content"]["ciphertext"])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, len(CIPHER) * 8 - 1), st.booleans())
def test_flipped_bits_and_truncation_fail_closed(bit: int, cut: bool) -> None:
    changed = bytearray(CIPHER)
    changed[bit // 8] ^= 1 << bit % 8
    content = bytes(changed[: bit // 8]) if cut else bytes(changed)
    broken = copy.deepcopy(SEALED)
    broken["content"]["ciphertext"] = base64.b64encode(content).decode()
    with pytest.raises(IntegrityError):  # the seller did not sign this
        opened(broken)
    with pytest.raises(KeyRefused):  # and had it been signed, it would not decrypt
        opened(forged(ciphertext=base64.b64encode(content).decode()))


BYTES = OPENED.to_bytes()


@settings(max_examples=80, deadline=None)
@given(st.integers(0, len(BYTES) * 8 - 1), st.booleans())
def test_a_damaged_opened_key_is_another_one_or_an_error(bit: int, cut: bool) -> None:
    changed = bytearray(BYTES)
    changed[bit // 8] ^= 1 << bit % 8
    content = bytes(changed[: bit // 8]) if cut else bytes(changed)
    try:
        key = OpenedKey.from_bytes(content)
    except BadFile:
        return
    assert key.digest() != OPENED.digest()
    bound = (key.licence, key.buyer) == (OPENED.licence, OPENED.buyer)
    assert not (bound and holds(key)), "a change that nothing notices"


def holds(key: OpenedKey) -> bool:
    try:
        key.check_trial(TRIAL)
        key.check_commitments(OPENED.commitments())
    except IntegrityError:
        return False
    return True


def test_the_encryption_key_belongs_to_the_identity() -> None:
    document = publish(BOB)
    assert Receiver.of(document, BOB.public) == Receiver.of(publish(BOB))
    with pytest.raises(IntegrityError, match="somebody else"):
        Receiver.of(document, EVE.public)
    document["content"]["x25519"] = Receiver.of(publish(EVE)).x25519
    with pytest.raises(IntegrityError, match="signature"):
        Receiver.of(document)
    for wrong in ({}, {"signer": 3}, sign_document({"x25519": "no"}, BOB, purpose="trade-x")):
        with pytest.raises(DoorwardError):
            Receiver.of(wrong)
    assert BOB.derive("a") == BOB.derive("a") != BOB.derive("b")
    assert BOB.derive("a") != EVE.derive("a")


def test_digests_name_content() -> None:
    one, two = nn.Linear(2, 2), nn.Linear(2, 2)
    two.load_state_dict(one.state_dict())
    assert weights_digest(one) == weights_digest(two)
    with torch.no_grad():
        two.weight[0, 0] += 1e-6
    assert weights_digest(one) != weights_digest(two)
    assert weights_digest(one) != weights_digest(nn.Sequential(one))
    assert weights_digest(one) != weights_digest(one.double())
    assert licence_digest("a \r\nb\n") == licence_digest("a\nb")
    assert licence_digest("a\nb") != licence_digest("a b")


def test_a_leak_names_its_buyer_even_from_an_unlocked_copy() -> None:
    master = Secret(bytes(32))
    model = create("resnet8", classes=10, input_shape=(1, 16, 16), width=16).eval()
    bank = a_bank(model).masks
    plain = MaskBank("channel", bank)
    codes = {name: buyer_code(master, OPENED.trial, name) for name in ("bob", "eve", "joe")}
    for name, code in codes.items():
        key = marked(plain, code)
        relative = torch.cat([(key.masks[s] / m - 1).flatten() for s, m in bank.items()])
        assert float(relative.abs().max()) == pytest.approx(0.01, rel=1e-2)
        for leaked in (
            key,
            read_masks(key.fold(model), model, plain),
            read_masks(key.apply(model), model, plain),
        ):
            first, *others = accuse(leaked, plain, codes)
            assert (first.buyer, first.accused) == (name, True)
            assert not any(match.accused for match in others)
    noisy = key.fold(model)
    with torch.no_grad():  # noise half as strong as the mark, as a careless pirate adds it
        for index, weight in enumerate(noisy.parameters()):
            draw = torch.Generator().manual_seed(index)
            weight.mul_(1 + 0.005 * torch.randn(weight.shape, generator=draw))
    assert accuse(read_masks(noisy, model, plain), plain, codes)[0].accused
    innocent = accuse(plain, plain, codes)
    assert all((match.signs, match.p_value, match.accused) == (0, 1.0, False) for match in innocent)


def test_marks_by_kind() -> None:
    images, code = torch.rand(1, 1, 16, 16), Secret(bytes(32))
    for kind, becomes in [("channel-binary", "channel"), ("element-binary", "element")]:
        assert marked(identity_bank(TRIAL, kind, images), code).kind == becomes
    signs = keyed_bank(TRIAL, "sign", images, code)
    assert marked(signs, code).kind == "channel"
    assert [m.accused for m in accuse(marked(signs, code), signs, {"a": code})] == [True]
    with pytest.raises(InvalidInput, match="permutation"):
        marked(identity_bank(TRIAL, "permutation", images), code)
    with pytest.raises(InvalidInput, match="strength"):
        marked(signs, code, strength=0)
    with pytest.raises(InvalidInput, match="nothing to compare"):
        accuse(signs, signs, {})
