"""``watermark copy``, ``watermark trace`` and ``watermark buyers``: a sale, a leak, a dispute."""

import json
import shutil

import pytest

from doorward.bundles import digest
from doorward.watermark.tracing import Register

FIRM = ["--steps", 80, "--per-batch", 20, "--lr", 0.1, "--batch-size", 32]


@pytest.fixture(scope="module")
def shop(house, doorward, tmp_path_factory):
    """A tracing key, and two copies sold of a model without a mark."""
    folder = tmp_path_factory.mktemp("shop")
    doorward(
        "watermark", "keygen", folder / "trace.key", "--data", "digits", "--size", 16, "--n", 20,
        "--owner", house / "ada.pub.json",
    )  # fmt: skip
    for name, more in (("acme", ["--bits", 8]), ("bolt", ["--payload", "0xbe"])):
        made = doorward(
            "watermark", "copy", house / "plain.model", "--key", folder / "trace.key",
            "--register", folder / "buyers.json", "--buyer", name, "--data", "digits",
            "--out", folder / f"{name}.model", *FIRM, *more,
        )  # fmt: skip
        assert made["matches"] >= 16
        assert made["log2_p"] <= -20
    return folder


def test_sold_copies_stand_in_the_register(shop, doorward):
    shown = doorward("watermark", "buyers", "show", shop / "buyers.json")
    assert [sale["buyer"] for sale in shown["sales"]] == ["acme", "bolt"]
    assert shown["sales"][1]["payload"] == "be"
    assert shown["bits"] == 8
    assert [sale["copy"] for sale in shown["sales"]] == [
        digest(shop / "acme.model"), digest(shop / "bolt.model"),
    ]  # fmt: skip
    assert "salt" not in json.dumps(shown)


@pytest.mark.parametrize("name", ["acme", "bolt"])
def test_a_leak_is_traced_by_name_or_by_payload(shop, doorward, name):
    words = ["watermark", "trace", shop / f"{name}.model", "--key", shop / "trace.key"]
    named = doorward(*words, "--register", shop / "buyers.json")
    assert (named["traced"], named["buyers"]) == (True, [name])
    bare = doorward(*words, "--bits", 8, "--covers", "digits")
    assert (bare["traced"], bare["buyers"]) == (True, [])
    assert bare["found"][0]["payload"] == named["found"][0]["payload"]
    said = doorward(*words, "--register", shop / "buyers.json", parse=False).stdout
    assert said.startswith(f"TRACED to {name}")


def test_an_innocent_model_is_a_no(house, shop, doorward):
    words = ["watermark", "trace", house / "plain.model", "--key", shop / "trace.key"]
    found = doorward(*words, "--register", shop / "buyers.json", code=1)
    assert (found["traced"], found["buyers"], found["found"]) == (False, [], [])
    said = doorward(*words, "--register", shop / "buyers.json", code=1, parse=False).stdout
    assert "Nobody is accused" in said


def test_a_copy_that_nobody_bought_names_nobody(shop, doorward, tmp_path):
    register = Register.load(shop / "buyers.json")
    payloads = {sale.payload for sale in register.sales}
    content = register.to_dict()
    content["sales"] = []
    (tmp_path / "empty.json").write_text(json.dumps(content))
    words = ["watermark", "trace", shop / "bolt.model", "--key", shop / "trace.key"]
    found = doorward(*words, "--register", tmp_path / "empty.json", code=1)
    assert (found["traced"], found["buyers"]) == (False, [])
    assert int(found["found"][0]["payload"], 16) in payloads


def test_a_committed_register_cannot_be_changed(house, shop, doorward, tmp_path):
    doorward(
        "watermark", "buyers", "commit", shop / "buyers.json", "--identity", house / "ada.key",
        "--out", tmp_path / "commitment.json",
    )  # fmt: skip
    words = ["watermark", "trace", shop / "bolt.model", "--key", shop / "trace.key",
             "--commitment", tmp_path / "commitment.json",
             "--public", house / "ada.pub.json"]  # fmt: skip
    assert doorward(*words, "--register", shop / "buyers.json")["buyers"] == ["bolt"]
    content = json.loads((shop / "buyers.json").read_text())
    content["sales"][1]["buyer"] = "corp"
    (tmp_path / "changed.json").write_text(json.dumps(content))
    refused = doorward(*words, "--register", tmp_path / "changed.json", code=1)
    assert refused["traced"] is False
    assert "not the one that was committed to" in refused["reason"]


def test_a_receipt_is_checked_against_the_commitment(house, shop, doorward, tmp_path):
    doorward(
        "watermark", "buyers", "commit", shop / "buyers.json", "--identity", house / "ada.key",
        "--out", tmp_path / "commitment.json",
    )  # fmt: skip
    receipt = ["watermark", "buyers", "receipt", shop / "buyers.json", "--payload", "be"]
    made = doorward(*receipt, "--out", tmp_path / "bolt.json")
    assert (made["buyer"], made["sales"]) == ("bolt", 2)
    check = ["watermark", "buyers", "check", tmp_path / "bolt.json", tmp_path / "commitment.json"]
    check += ["--public", house / "ada.pub.json"]
    good = doorward(*check)
    assert (good["good"], good["buyer"], good["payload"]) == (True, "bolt", "be")
    content = json.loads((tmp_path / "bolt.json").read_text())
    content["sale"]["buyer"] = "corp"
    (tmp_path / "bolt.json").write_text(json.dumps(content))
    assert doorward(*check, code=1)["good"] is False


def test_a_stopped_sale_is_taken_up_by_its_payload_and_a_weak_copy_is_a_no(
    house, shop, doorward, tmp_path
):
    """The register was written, the copy was not; then a copy of one step, which holds nothing."""
    register = Register.load(shop / "buyers.json").sell("dora", payload=0x77)
    register.save(tmp_path / "buyers.json")
    shutil.copy(shop / "trace.key", tmp_path / "trace.key")
    words = ["watermark", "copy", house / "plain.model", "--key", tmp_path / "trace.key",
             "--register", tmp_path / "buyers.json", "--data", "digits", "--payload", "77",
             "--out", tmp_path / "dora.model", "--steps", 1]  # fmt: skip
    refused = doorward(*words, "--buyer", "eve", code=2)
    assert "given to dora already" in refused["error"]["message"]
    weak = doorward(*words, "--buyer", "dora", code=1)
    assert weak["log2_p"] > -20
    sales = Register.load(tmp_path / "buyers.json").sales
    assert [sale.buyer for sale in sales] == ["acme", "bolt", "dora"]
    assert sales[2].copy == digest(tmp_path / "dora.model")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["copy", "plain", "--bits", 16, "--out", "x.model"], "payloads of 8 bits"),
        (["copy", "plain", "--payload", "xyz", "--out", "x.model"], "no payload"),
        (["copy", "plain", "--payload", "100", "--out", "x.model"], "not one of 8 bits"),
        (["copy", "plain", "--per-batch", 21, "--out", "x.model"], "21 triggers per batch"),
        (["trace", "plain", "--commitment", "c.json"], "belong together"),
        (["trace", "plain", "--alpha-bits", 60], "never be met"),
    ],
    ids=str,
)
def test_a_wrong_call_is_refused_before_the_work(house, shop, doorward, tmp_path, words, said):
    before = (shop / "buyers.json").read_bytes()
    places = {"plain": house / "plain.model", "x.model": tmp_path / "x.model"}
    words = [places.get(word, word) for word in words]
    words += ["--key", shop / "trace.key", "--register", shop / "buyers.json"]
    if words[0] == "copy":
        words += ["--buyer", "eve", "--data", "digits"]
    refused = doorward("watermark", *words, code=2)
    assert said in refused["error"]["message"]
    assert (shop / "buyers.json").read_bytes() == before
    assert not (tmp_path / "x.model").exists()


def test_another_tracing_key_does_not_fit_the_register(house, shop, doorward):
    refused = doorward(
        "watermark", "trace", shop / "bolt.model", "--key", house / "mark.key",
        "--register", shop / "buyers.json", code=2,
    )  # fmt: skip
    assert "another key" in refused["error"]["message"]
