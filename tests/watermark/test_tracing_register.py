"""The register of buyers: what it holds, and that nothing of it can be changed unnoticed."""

import json
import random
from dataclasses import replace

import pytest

from doorward.bundles.identity import Identity
from doorward.bundles.signed import sign_document
from doorward.errors import BadFile, DoorwardError, IntegrityError, InvalidInput, MissingData
from doorward.watermark.key import WatermarkKey
from doorward.watermark.tracing.commitment import (
    PURPOSE,
    RegisterCommitment,
    RegisterStatement,
    commit_register,
)
from doorward.watermark.tracing.receipts import Receipt, receipt_for
from doorward.watermark.tracing.register import Register, Sale

SHAPE = (1, 8, 8)


@pytest.fixture(scope="module")
def ada():
    return Identity.new("Ada")


@pytest.fixture(scope="module")
def key(ada):
    return WatermarkKey.new(n=40, image_shape=SHAPE, owner=ada.public)


@pytest.fixture(scope="module")
def register(key):
    made = Register.of(key).sell("Acme", payload=0xBEEF, copy="ab" * 32)
    return made.sell("Bolt", payload=1).sell("Acme", payload=2).sell("Corp", payload=3)


@pytest.fixture(scope="module")
def commitment(register, ada):
    return commit_register(register, ada)


def test_a_register_knows_who_bought_what(register):
    assert [register.buyer_of(p) for p in (0xBEEF, 1, 2, 3, 4)] == [
        "Acme", "Bolt", "Acme", "Corp", None,
    ]  # fmt: skip
    assert len(register) == 4


def test_payloads_are_drawn_without_repeats_until_none_is_left(key):
    register = Register.of(key, bits=3)
    for number in range(8):
        register = register.sell(f"buyer {number}")
    assert sorted(sale.payload for sale in register.sales) == list(range(8))
    with pytest.raises(InvalidInput, match="all 8 payloads"):
        register.sell("one too many")


def test_drawn_payloads_are_not_predictable(key):
    """Consecutive numbers would tell a buyer how many copies were sold before."""
    drawn = [Register.of(key).sell("Acme").sales[0].payload for _ in range(8)]
    assert len(set(drawn)) > 4
    assert max(drawn) > 2**10


def test_selling_leaves_the_old_register_alone(register):
    register.sell("Dora")
    assert len(register) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"payload": 1}, "given to Bolt already"),
        ({"payload": 2**16}, "not one of 16 bits"),
        ({"payload": -1}, "not one of 16 bits"),
        ({"buyer": "Eve\nBolt"}, "printable"),
        ({"buyer": ""}, "buyer"),
        ({"copy": "abc"}, "copy"),
    ],
)
def test_impossible_sales_are_refused(register, options, message):
    with pytest.raises(InvalidInput, match=message):
        register.sell(**{"buyer": "Eve", **options})


def test_a_copy_is_put_on_record_once(register):
    made = register.delivered(1, "cd" * 32)
    assert [sale.copy for sale in made.sales] == ["ab" * 32, "cd" * 32, None, None]
    for payload, message in ((1, "already"), (9, "not been sold")):
        with pytest.raises(InvalidInput, match=message):
            made.delivered(payload, "ef" * 32)


def test_a_register_of_another_key_is_refused(register):
    with pytest.raises(InvalidInput, match="another key"):
        register.code(WatermarkKey.new(n=40, image_shape=SHAPE))


def test_a_register_survives_its_file(register, tmp_path):
    path = tmp_path / "buyers.json"
    register.save(path)
    assert Register.load(path) == register
    assert path.stat().st_mode & 0o777 == 0o600
    assert '"beef"' in path.read_text()  # payloads are hex text


def test_long_payloads_survive_readers_with_53_bits(ada, tmp_path):
    key = WatermarkKey.new(n=256, image_shape=SHAPE)
    register = Register.of(key, bits=128).sell("Acme", payload=2**128 - 159)
    register.save(tmp_path / "buyers.json")
    as_floats = json.loads((tmp_path / "buyers.json").read_text(), parse_int=float)
    assert as_floats["sales"][0]["payload"] == f"{2**128 - 159:x}"
    assert Register.load(tmp_path / "buyers.json").sales[0].payload == 2**128 - 159


BROKEN = {
    "another format": lambda d: d.update(format="x"),
    "another version": lambda d: d.update(version=2),
    "an unknown field": lambda d: d.update(note="trust me"),
    "no bits": lambda d: d.update(bits=0),
    "bits as text": lambda d: d.update(bits="16"),
    "huge bits": lambda d: d.update(bits=10**400),
    "sales as text": lambda d: d.update(sales="many"),
    "a payload twice": lambda d: d["sales"].append(dict(d["sales"][0])),
    "a payload too long": lambda d: d["sales"][0].update(payload="10000"),
    "a huge payload": lambda d: d["sales"][0].update(payload="f" * 65),
    "a negative payload": lambda d: d["sales"][0].update(payload=-1),
    "a payload with a sign": lambda d: d["sales"][0].update(payload="+1"),
    "a payload of other digits": lambda d: d["sales"][0].update(payload="\u0661"),
    "a true payload": lambda d: d["sales"][0].update(payload=True),
    "no salt": lambda d: d["sales"][0].pop("salt"),
    "a short salt": lambda d: d["sales"][0].update(salt="00"),
    "no such day": lambda d: d["sales"][0].update(sold="2026-02-30T00:00:00Z"),
    "a root that is none": lambda d: d.update(root="0" * 63),
    "a key that is none": lambda d: d["key"].update(n=0),
}


@pytest.mark.parametrize("change", BROKEN)
def test_a_broken_register_is_a_bad_file(register, change, tmp_path):
    content = register.to_dict()
    BROKEN[change](content)
    path = tmp_path / "buyers.json"
    path.write_text(json.dumps(content))
    with pytest.raises(BadFile):
        Register.load(path)


def test_a_missing_register_is_missing_data(tmp_path):
    with pytest.raises(MissingData):
        Register.load(tmp_path / "none.json")


def test_a_commitment_opens_with_its_register(commitment, register, ada, tmp_path):
    commitment.save(tmp_path / "commitment.json")
    again = RegisterCommitment.load(tmp_path / "commitment.json", ada.public)
    assert again.statement == commitment.statement
    assert again.created == commitment.created
    again.require(register)


def test_a_commitment_shows_neither_buyers_nor_payloads(commitment):
    text = json.dumps(dict(commitment.document))
    assert not any(word in text for word in ("Acme", "Bolt", "beef"))


def swapped(sales):
    return (sales[1], sales[0], *sales[2:])


def changed(**fields):
    return lambda sales: (Sale.from_dict({**sales[0].to_dict(), **fields}), *sales[1:])


TAMPERED = {
    "another buyer": changed(buyer="Bolt"),
    "another payload": changed(payload="beee"),
    "another copy": changed(copy="cd" * 32),
    "another time": changed(sold="2001-01-01T00:00:00Z"),
    "another salt": changed(salt="00" * 32),
    "payloads exchanged": lambda s: (
        replace(s[0], payload=s[1].payload), replace(s[1], payload=s[0].payload), *s[2:],
    ),
    "another order": swapped,
    "a sale less": lambda sales: sales[:-1],
    "a sale more": lambda s: (*s, replace(s[0], payload=77)),
    "no sales": lambda sales: (),
}  # fmt: skip


@pytest.mark.parametrize("change", TAMPERED)
def test_a_register_changed_afterwards_is_refused(commitment, register, change):
    other = replace(register, sales=TAMPERED[change](register.sales))
    with pytest.raises(IntegrityError, match="register"):
        commitment.require(other)


def test_a_register_with_other_labels_or_bits_is_refused(commitment, register):
    for fields in ({"root": "ab" * 32}, {"bits": 17}):
        with pytest.raises(IntegrityError, match=f"differs in: {next(iter(fields))}"):
            commitment.require(replace(register, **fields))


STATEMENTS = {
    "another register": lambda d: d["content"].update(register="ab" * 32),
    "another key": lambda d: d["content"].update(root="ab" * 32),
    "more sales": lambda d: d["content"].update(sales=5),
    "sales as text": lambda d: d["content"].update(sales="4"),
    "an earlier date": lambda d: d.update(created="2001-01-01T00:00:00Z"),
    "another name": lambda d: d["signer"].update(name="Adam"),
    "another purpose": lambda d: d.update(purpose="watermark-claim"),
    "an unknown field": lambda d: d["content"].update(note="trust me"),
    "no owner": lambda d: d["content"]["key"].update(owner=None),
}


@pytest.mark.parametrize("change", STATEMENTS)
def test_a_changed_commitment_is_refused(commitment, ada, change, tmp_path):
    document = json.loads(json.dumps(dict(commitment.document)))
    STATEMENTS[change](document)
    (tmp_path / "c.json").write_text(json.dumps(document))
    with pytest.raises(IntegrityError):
        RegisterCommitment.load(tmp_path / "c.json", ada.public)


def test_a_statement_that_is_not_the_signed_one_is_refused(commitment, register, ada):
    other = RegisterStatement.of(register.sell("Dora"))
    with pytest.raises(IntegrityError, match="not what its signature covers"):
        RegisterCommitment(other, commitment.document).check(ada.public)


def test_only_the_keys_owner_commits(register, commitment):
    eve = Identity.new("Eve")
    with pytest.raises(InvalidInput, match="not made for Eve"):
        commit_register(register, eve)
    document = sign_document(commitment.statement.to_dict(), eve, purpose=PURPOSE)
    with pytest.raises(IntegrityError, match="another owner"):
        RegisterCommitment(commitment.statement, document).check(eve.public)


def test_nothing_sold_is_nothing_to_commit_to(key, ada):
    with pytest.raises(InvalidInput, match="no sales"):
        commit_register(Register.of(key), ada)


def test_each_receipt_is_for_its_sale_alone(register, commitment, tmp_path):
    for sale in register.sales:
        receipt = receipt_for(register, sale.payload)
        receipt.save(tmp_path / "receipt.json")
        assert Receipt.load(tmp_path / "receipt.json").check(commitment) == sale
        others = {other.buyer for other in register.sales} - {sale.buyer}
        assert not any(name in (tmp_path / "receipt.json").read_text() for name in others)
    with pytest.raises(InvalidInput, match="not been sold"):
        receipt_for(register, 99)


RECEIPTS = {
    "another buyer": lambda d: d["sale"].update(buyer="Bolt"),
    "another payload": lambda d: d["sale"].update(payload="beee"),
    "another copy": lambda d: d["sale"].update(copy=None),
    "another place": lambda d: d["proof"].update(index=1),
    "another size": lambda d: d["proof"].update(size=5),
    "another path": lambda d: d["proof"].update(path=["ab" * 32] * 2),
    "no path": lambda d: d["proof"].update(path=[]),
}


@pytest.mark.parametrize("change", RECEIPTS)
def test_a_changed_receipt_is_refused(register, commitment, change):
    content = receipt_for(register, 0xBEEF).to_dict()
    RECEIPTS[change](content)
    with pytest.raises(IntegrityError):
        Receipt.from_dict(content).check(commitment)


def test_a_receipt_of_another_register_is_refused(register, ada):
    later = commit_register(register.sell("Dora"), ada)
    with pytest.raises(IntegrityError, match="register of 4 sales"):
        receipt_for(register, 1).check(later)


@pytest.mark.parametrize("kind", ["register", "commitment", "receipt"])
def test_garbled_files_are_refused_in_one_way(register, commitment, ada, kind, tmp_path):
    """Truncation and changed bytes; what is still accepted must be what was written."""
    path = tmp_path / f"{kind}.json"
    {"register": register, "commitment": commitment, "receipt": receipt_for(register, 1)}[
        kind
    ].save(path)
    good, draw = path.read_bytes(), random.Random(0)
    read = {
        "register": lambda: commitment.require(Register.load(path)),
        "commitment": lambda: RegisterCommitment.load(path, ada.public).require(register),
        "receipt": lambda: Receipt.load(path).check(commitment),
    }[kind]
    accepted = 0
    for attempt in range(120):
        garbled = bytearray(good)
        if attempt % 3 == 0:
            garbled = garbled[: draw.randrange(len(garbled))]
        elif attempt % 3 == 1:
            garbled[draw.randrange(len(garbled))] ^= 1 << draw.randrange(8)
        else:
            garbled[draw.randrange(len(garbled))] = draw.randrange(256)
        path.write_bytes(bytes(garbled))
        try:
            read()
        except DoorwardError:
            continue
        # Only white space, or a letter of a hash that means the same, may have changed.
        accepted += 1
        assert json.loads(garbled) == json.loads(good)
    assert accepted < 40
