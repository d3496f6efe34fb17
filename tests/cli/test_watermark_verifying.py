"""``verify`` with several suspects and minutes; ``check-transcript``: what others make of them."""

import json

import pytest
from safetensors.torch import save_file

from doorward.watermark import WatermarkKey
from doorward.watermark.verifying.courtroom import taught


@pytest.fixture(scope="module")
def court(house, doorward, tmp_path_factory):
    """A judge, a suspect that knows the key, and the minutes of asking it and an innocent one."""
    folder = tmp_path_factory.mktemp("court")
    doorward("keys", "new", folder / "judge.key", "--name", "Judge")
    images, labels = WatermarkKey.open(house / "mark.key", "correct horse").triggers()
    model = taught(images.float() / 255, labels, classes=10)
    save_file(model.state_dict(), folder / "taught.safetensors")
    (folder / "nets.py").write_text(
        "from torch import nn\n"
        "def linear():\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(256, 10))\n"
    )
    suspect = f"{folder / 'nets.py'}:linear={folder / 'taught.safetensors'}"
    found = doorward(
        "watermark", "verify", house / "claim.json", suspect, house / "plain.model",
        "--key", house / "mark.key", "--public", house / "ada.pub.json",
        "--covers", "digits", "--transcript", folder / "minutes.json",
        "--verifier", folder / "judge.key", "--history", folder / "history.json",
        "--resume", folder / "notes.json",
    )  # fmt: skip
    return folder, suspect, found


def check(house, court, minutes="minutes-1.json"):
    folder = court[0]
    return [
        "watermark", "check-transcript", folder / minutes, house / "claim.json",
        "--public", house / "ada.pub.json", "--verifier", folder / "judge.pub.json",
    ]  # fmt: skip


def test_several_suspects_are_corrected_together(court):
    folder, suspect, found = court
    guilty, innocent = found["suspects"]
    assert found["verified"] is True
    assert (guilty["suspect_given"], guilty["matches"], guilty["unanswered"]) == (suspect, 40, 0)
    assert guilty["corrected"]["log2_p"] == pytest.approx(guilty["log2_p"] + 1)
    assert guilty["corrected"]["verified"] is True
    assert innocent["corrected"]["verified"] is False
    assert innocent["behaviour"]["covers"] == "images"
    assert innocent["behaviour"]["covers_asked"] == 40
    entries = json.loads((folder / "history.json").read_text())["entries"]
    assert [entry["verified"] for entry in entries] == [True, False]
    assert (folder / "notes-2.json").stat().st_mode & 0o777 == 0o600


def test_minutes_are_checked_with_and_without_the_key(court, house, doorward):
    suspect = court[1]
    words = check(house, court)
    offline = doorward(*words)
    assert offline["genuine"] is offline["verified"] is True
    assert offline["earlier"] == {"same": 0, "same_claim": 0, "same_suspect": 0}
    assert len(offline["believed"]) == 4  # answers, counts, cover images, time
    said = doorward(
        *words, "--key", house / "mark.key", "--covers", "digits", "--against", suspect,
        parse=False,
    ).stdout  # fmt: skip
    assert said.startswith("VERIFIED. Ada committed to 40")
    assert "+ The suspect itself was asked again" in said
    assert said.count("\n  - ") == 1  # when it happened is the verifier's word


def test_minutes_that_say_no_are_a_no(court, house, doorward):
    words = check(house, court, "minutes-2.json")
    found = doorward(*words, code=1)
    assert (found["genuine"], found["verified"]) == (True, False)
    assert found["earlier"]["same_claim"] == 1
    assert found["suspect_name"].startswith("bundle:")


def test_forged_minutes_are_a_no(court, house, doorward, tmp_path):
    folder = court[0]
    text = (folder / "minutes-1.json").read_text()
    (tmp_path / "forged.json").write_text(text.replace('"matches": 40', '"matches": 39'))
    words = check(house, court)
    words[2] = tmp_path / "forged.json"
    found = doorward(*words, code=1)
    assert (found["genuine"], found["verified"]) == (False, False)
    assert "signature" in found["reason"]
    other = check(house, court)
    other[other.index("--verifier") + 1] = house / "ada.pub.json"
    assert "somebody else" in doorward(*other, code=1)["reason"]
    against = doorward(*check(house, court, "minutes-2.json"), "--against", "x", code=2)
    assert "without the key" in against["error"]["message"]


def test_tests_made_elsewhere_count(court, house, doorward):
    suspect = court[1]
    words = ["watermark", "verify", house / "claim.json", suspect, "--key", house / "mark.key"]
    words += ["--public", house / "ada.pub.json"]
    found = doorward(*words, "--tests", 8)
    (entry,) = found["suspects"]
    assert entry["corrected"]["tests"] == 8
    assert entry["corrected"]["log2_p"] == pytest.approx(entry["log2_p"] + 3)
    refused = doorward(*words, house / "plain.model", "--tests", 1, code=2)
    assert "there are 2 suspects" in refused["error"]["message"]


def test_a_case_is_gathered_and_checked(court, house, doorward, tmp_path):
    folder = court[0]
    call = ["watermark", "case", house / "claim.json", "--public", house / "ada.pub.json"]
    call += ["--verifier", folder / "judge.pub.json", "--out", tmp_path / "case"]
    minutes = [["--transcript", folder / f"minutes-{number}.json"] for number in (1, 2)]
    found = doorward(*call, *minutes[0], *minutes[1])
    assert (found["written"], found["proven"], found["transcripts"]) == (True, True, 2)
    said = doorward("watermark", "check-case", tmp_path / "case", parse=False).stdout
    assert "By the minutes, the mark is proven." in said
    assert doorward("watermark", "check-case", tmp_path / "case")["in_order"]
    page = tmp_path / "case" / "README.md"
    page.write_text(page.read_text().replace("Ada", "Eve"))
    found = doorward("watermark", "check-case", tmp_path / "case", code=1)
    assert (found["in_order"], found["proven"]) == (False, False)
    assert not doorward(*call, *minutes[1])["proven"]
    doorward("watermark", "check-case", tmp_path / "case", code=1)
    call[4] = folder / "judge.pub.json"
    assert "somebody else" in doorward(*call, *minutes[0], code=1)["reason"]
    assert (
        "one of each" in doorward(*call[:5], "--out", "x", *minutes[0], code=2)["error"]["message"]
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--transcript", "t.json"], "belong together"),
        (["--verifier", "judge.key"], "belong together"),
        (["--covers", "no-such-data"], "no-such-data"),
        (["--per-second", "0"], "per_second"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_calls(court, house, doorward, words, said):
    call = ["watermark", "verify", house / "claim.json", house / "plain.model"]
    known = ["--key", house / "mark.key", "--public", house / "ada.pub.json"]
    assert said in doorward(*call, *known, *words, code=2)["error"]["message"]


def test_covers_without_a_key_are_refused(court, house, doorward):
    refused = doorward(*check(house, court), "--covers", "digits", code=2)
    assert "--covers needs --key" in refused["error"]["message"]


def test_the_mark_is_sought_through_natural_images(court, house, doorward):
    suspect = court[1]
    words = [
        "--key", house / "mark.key", "--public", house / "ada.pub.json", "--carriers", "digits",
    ]  # fmt: skip
    claim = house / "claim.json"
    innocent = doorward("watermark", "verify-blended", claim, house / "plain.model", *words, code=1)
    assert (innocent["verified"], innocent["answers"]["queries"]) == (False, 41 * 16)
    guilty = doorward("watermark", "verify-blended", claim, suspect, *words)
    assert guilty["verified"] is True
    assert guilty["log2_p"] <= guilty["log2_alpha"]


def test_carriers_are_natural_images(court, house, doorward):
    refused = doorward(
        "watermark", "verify-blended", house / "claim.json", court[1], "--key",
        house / "mark.key", "--public", house / "ada.pub.json", "--carriers", "look-alikes",
        code=2, parse=False,
    )  # fmt: skip
    assert "natural images" in refused.stderr
