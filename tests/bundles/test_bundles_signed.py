import copy
import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from doorward.bundles.documents import MAX_BYTES, canonical, parse_object, read_object
from doorward.bundles.identity import Identity
from doorward.bundles.signed import check_document, read_document, sign_document, write_document
from doorward.errors import BadFile, DoorwardError, IntegrityError, InvalidInput, MissingData

ADA, EVE = Identity.new("Ada"), Identity.new("Eve")
HUGE = 10**5000  # more digits than Python turns into text
CONTENT = {"n": 3, "list": [1.5, None, "ü"], "nested": {"10": 0, "9": 1}}
DOCUMENT = sign_document(CONTENT, ADA, purpose="claim")


def test_round_trip_through_a_file(tmp_path):
    write_document(tmp_path / "c.json", DOCUMENT)
    assert read_document(tmp_path / "c.json", ADA.public, purpose="claim") == CONTENT


def test_what_is_signed_is_what_a_reader_sees():
    document = sign_document({"a": (1, 2), 10: {"x": 1}, 9: 0}, ADA, purpose="claim")
    read = json.loads(json.dumps(document))
    assert check_document(read, ADA.public, purpose="claim") == {
        "a": [1, 2],
        "10": {"x": 1},
        "9": 0,
    }


def test_time_is_utc():
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=2)))
    document = sign_document({}, ADA, purpose="claim", created=moment)
    assert document["created"] == "2026-01-02T01:04:05Z"
    with pytest.raises(InvalidInput, match="time zone"):
        sign_document({}, ADA, purpose="claim", created=datetime(2026, 1, 1))
    fresh = sign_document({}, ADA, purpose="claim")["created"]
    now = datetime.strptime(fresh, "%Y-%m-%dT%H:%M:%S%z")
    assert abs(datetime.now(UTC) - now) < timedelta(minutes=5)


def test_other_signer_and_other_purpose_are_rejected():
    with pytest.raises(IntegrityError, match="somebody else"):
        check_document(DOCUMENT, EVE.public, purpose="claim")
    with pytest.raises(IntegrityError, match="is a 'claim'"):
        check_document(DOCUMENT, ADA.public, purpose="receipt")
    with pytest.raises(IntegrityError):
        check_document({**DOCUMENT, "purpose": "receipt"}, ADA.public, purpose="receipt")


@pytest.mark.parametrize(
    "change",
    [
        {"content": {**CONTENT, "n": 4}},
        {"created": "2020-01-01T00:00:00Z"},
        {"signature": "0" * 128},
        {"signer": {**ADA.public.to_dict(), "name": "Bob"}},
    ],
)
def test_changed_documents_are_rejected(change):
    with pytest.raises(IntegrityError):
        check_document({**DOCUMENT, **change}, ADA.public, purpose="claim")


@pytest.mark.parametrize(
    "change", [{"version": 2}, {"extra": 1}, {"signature": "zz"}, {"content": []}, {"signer": None}]
)
def test_malformed_documents_are_bad_files(change):
    with pytest.raises(BadFile, match="not a signed document"):
        check_document({**DOCUMENT, **change}, ADA.public, purpose="claim")


@pytest.mark.parametrize("content", [{"x": float("nan")}, {"x": object()}, {"x": b""}, {"x": {1}}])
def test_content_that_is_not_json(content):
    with pytest.raises(InvalidInput, match="JSON"):
        sign_document(content, ADA, purpose="claim")


@pytest.mark.parametrize("purpose", ["", "Claim", "a b", "x" * 101])
def test_bad_purpose(purpose):
    with pytest.raises(InvalidInput, match="purpose"):
        sign_document({}, ADA, purpose=purpose)


json_objects = st.dictionaries(
    st.text(),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    ),
)  # fmt: skip


@settings(deadline=None, max_examples=50)
@given(content=json_objects)
def test_any_json_object_can_be_signed_and_checked(content):
    document = json.loads(json.dumps(sign_document(content, ADA, purpose="x")))
    assert check_document(document, ADA.public, purpose="x") == content


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_flipped_bytes_never_pass(data):
    raw = bytearray(json.dumps(DOCUMENT).encode())
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        content = check_document(parse_object(bytes(raw), "x"), ADA.public, purpose="claim")
    except DoorwardError:
        return
    assert content == CONTENT


@pytest.mark.parametrize("field", sorted(DOCUMENT))
@pytest.mark.parametrize("value", [None, 1, [], {}, "\ud800", "x", HUGE], ids=range(7))
def test_nonsense_in_any_field(field, value):
    document = {**copy.deepcopy(DOCUMENT), field: value}
    if document == DOCUMENT:
        pytest.skip("this is the right value")
    with pytest.raises((BadFile, IntegrityError)):
        check_document(document, ADA.public, purpose="claim")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[]",
        b"1",
        b'{"a": NaN}',
        b'{"a": 1, "a": 1}',
        b'{"a": "\\ud800"}',
        b'{"a": ' + b"1" * 5000 + b"}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ],
)
def test_json_that_cannot_be_trusted(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(BadFile, match=r"x\.json"):
        read_object(path)


def test_files_that_are_no_documents(tmp_path):
    with pytest.raises(MissingData):
        read_object(tmp_path / "none")
    with pytest.raises(BadFile, match="regular file"):
        read_object(tmp_path)
    with pytest.raises(DoorwardError):
        read_object("a\0b")
    with pytest.raises(DoorwardError):
        read_object("x" * 5000)
    big = tmp_path / "big.json"
    with big.open("wb") as stream:
        stream.truncate(MAX_BYTES + 1)
    with pytest.raises(BadFile, match="larger"):
        read_object(big)


@given(content=st.binary(max_size=300))
def test_random_bytes(content):
    with suppress(BadFile):
        assert isinstance(parse_object(content, "x"), dict)


def test_canonical_order():
    assert canonical({"b": 1, "a": 2}, "x") == b'{"a":2,"b":1}'
