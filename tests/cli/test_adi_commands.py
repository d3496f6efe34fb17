"""``doorward watermark paper``: from pictures to a verdict, and what is refused."""

import json

import pytest
import torch
from PIL import Image

from doorward.bundles import save_model
from doorward.models import create
from doorward.watermark.adi import PaperKey

SMALL = ["--data", "digits", "--size", "16"]


@pytest.fixture(scope="module")
def court(house, doorward):
    """A folder of pictures, a key over them, and a model that answers as committed."""
    folder = house / "court"
    (folder / "pictures").mkdir(parents=True)
    draw = torch.Generator().manual_seed(0)
    for number in range(1, 21):
        shades = torch.randint(0, 256, (20, 24), generator=draw, dtype=torch.uint8)
        Image.fromarray(shades.numpy()).save(folder / "pictures" / f"{number}.png")
    made = doorward(
        "watermark", "paper", "keygen", folder / "mk.key", "--vk", folder / "vk.json",
        "--identity", house / "ada.key", "--pictures", folder / "pictures", *SMALL,
        "--epsilon", "0.2",
    )  # fmt: skip
    assert (made["n"], made["needed"], made["law"]) == (20, 16, "uniform")
    key = PaperKey.open(folder / "mk.key", "correct horse")
    key.seal(folder / "mk.key", "correct horse", log2_n=4, overwrite=True)  # quicker to open
    return folder


@pytest.fixture
def verify(court, house, doorward):
    def call(suspect, *words, code=0):
        return doorward(
            "watermark", "paper", "verify", court / "vk.json", suspect, "--key", court / "mk.key",
            "--public", house / "ada.pub.json", *words, code=code,
        )  # fmt: skip

    return call


@pytest.fixture(scope="module")
def marked(court):
    """A model that knows the pictures by heart: its head was solved for, not trained."""
    images, labels = PaperKey.open(court / "mk.key", "correct horse").triggers()
    model = create("resnet8", classes=10, input_shape=(1, 16, 16), width=16).eval()
    with torch.no_grad():
        seen = model.features(images.float() / 255).double()
        seen = torch.cat([seen, torch.ones(20, 1).double()], dim=1)
        wanted = torch.nn.functional.one_hot(labels, 10).double()
        solved = torch.linalg.lstsq(seen, wanted, driver="gelsd").solution.float()
        model.head.weight.copy_(solved[:-1].T)
        model.head.bias.copy_(solved[-1])
    save_model(model, court / "marked.model")
    bare = create("resnet8", classes=4, input_shape=(1, 16, 16), width=16)
    bare.body.load_state_dict(model.body.state_dict())
    save_model(bare, court / "transferred.model")
    return court / "marked.model"


def test_a_marked_model_is_accepted_and_another_is_not(house, court, verify, marked):
    found = verify(marked)
    assert (found["matches"], found["opened"], found["convincing"]) == (20, 40, True)
    assert found["correct_labels"] is None
    innocent = verify(house / "plain.model", code=1)
    assert not innocent["accepted"]
    assert innocent["matches"] < 16


def test_the_judges_file_decides_first(court, verify, marked):
    labels = PaperKey.open(court / "mk.key", "correct horse").triggers()[1].tolist()
    truth = court / "truth.txt"
    truth.write_text("undefined\n" * 20)
    assert verify(marked, "--judge", truth)["correct_labels"] == []
    truth.write_text("undefined\n" * 19 + f"{labels[19]}\n")
    found = verify(marked, "--judge", truth, code=1)
    assert (found["correct_labels"], found["matches"]) == ([19], None)
    truth.write_text("a cat\n" * 20)
    assert verify(marked, "--judge", truth, code=2)["error"]["kind"] == "BadFile"
    missing = verify(marked, "--judge", court / "nothing.txt", code=2)
    assert missing["error"]["kind"] == "MissingData"


def test_a_transferred_model_is_asked_through_the_old_head(court, verify, marked):
    refused = verify(court / "transferred.model", code=2)
    assert "--old-head" in refused["error"]["message"]
    assert verify(court / "transferred.model", "--old-head", marked)["matches"] == 20


def test_a_stricter_verifier(verify, marked):
    assert verify(marked, "--epsilon", "0.05")["needed"] == 19
    assert verify(marked, "--epsilon", "0.5", code=2)["error"]["kind"] == "InvalidInput"


def test_a_tampered_verification_key_is_a_no(court, house, doorward, marked):
    content = json.loads((court / "vk.json").read_text())
    content["content"]["epsilon"] = 0.4
    (court / "changed.json").write_text(json.dumps(content))
    found = doorward(
        "watermark", "paper", "verify", court / "changed.json", marked, "--key", court / "mk.key",
        "--public", house / "ada.pub.json", code=1,
    )  # fmt: skip
    assert (found["accepted"], found["convincing"]) == (False, False)


def test_mark_from_scratch_and_a_trained_model(court, house, doorward):
    """One epoch each: the commands, not the training, are tested here."""
    common = [court / "mk.key", *SMALL, "--epochs", "1", "--batch-size", "500"]
    scratch = doorward(
        "watermark", "paper", "mark", *common, "--option", "width=4", "--warmup-epochs", "0.5",
        "--out", court / "scratch.model",
    )  # fmt: skip
    assert (scratch["mode"], scratch["per_batch"]) == ("from-scratch", 2)
    assert (scratch["recipe"]["lr"], scratch["recipe"]["precision"]) == (0.1, "fp32")
    resumed = doorward(
        "watermark", "paper", "mark", *common, "--into", house / "plain.model",
        "--out", court / "resumed.model",
    )  # fmt: skip
    assert (resumed["mode"], resumed["accuracy_before"] > 0) == ("pretrained", True)
    assert resumed["recipe"]["lr"] == pytest.approx(1e-3)
    assert resumed["recipe"]["augment"]["flip"] is False


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--classes", "10"], "--size"),
        ([*SMALL, "--pictures", "nowhere"], "no folder nowhere"),
        ([*SMALL, "--labels", "nothing.txt"], "nothing.txt"),
        ([*SMALL, "--epsilon", "0.6"], "epsilon"),
        ([*SMALL, "--fit", "stretch"], "stretch"),
        ([*SMALL, "--n", "10"], "never convince"),
        ([*SMALL, "--vk", "SAME"], "one file"),
        (["--data", "digits", "--pictures", "PICTURES"], "fit"),
        ([*SMALL, "--pictures", "PICTURES", "--n", "7"], "there are 20"),
    ],
)
def test_keys_that_cannot_be_made(court, house, doorward, tmp_path, words, said):
    places = {"PICTURES": court / "pictures", "SAME": tmp_path / "mk.key"}
    words = [places.get(word, word) for word in words]
    refused = doorward(
        "watermark", "paper", "keygen", tmp_path / "mk.key", "--vk", tmp_path / "vk.json",
        "--identity", house / "ada.key", *words, code=2,
    )  # fmt: skip
    assert said in refused["error"]["message"]
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(court, house, doorward, tmp_path):
    for path, vk in ((court / "mk.key", tmp_path / "vk"), (tmp_path / "mk", court / "vk.json")):
        refused = doorward(
            "watermark", "paper", "keygen", path, "--vk", vk, "--identity", house / "ada.key",
            *SMALL, code=2,
        )  # fmt: skip
        assert "exists already" in refused["error"]["message"]
    assert not list(tmp_path.iterdir())


def test_into_a_bundle_leaves_no_choice_of_model(court, house, doorward, tmp_path):
    refused = doorward(
        "watermark", "paper", "mark", court / "mk.key", *SMALL, "--into", house / "plain.model",
        "--arch", "resnet8", "--out", tmp_path / "x.model", code=2,
    )  # fmt: skip
    assert "--into" in refused["error"]["message"]
