"""``doorward scan``, ``purge``, ``remove``: exit codes, JSON, folders, models of one's own."""

import json

import pytest
import torch
from pydantic.dataclasses import dataclass
from safetensors.torch import save_file

from doorward.bundles import load_model, read_card, read_evidence, save_model
from doorward.data import load
from doorward.models import create
from doorward.records import STRICT
from doorward.removal import PurgeResult
from doorward.scanning import (
    RECOVERED,
    SCANNERS,
    Finding,
    Look,
    Recovered,
    Scanner,
    ScanResult,
    load_recovered,
)
from doorward.training import Recipe, fit

QUIET = ["--finish", "none", "--rounds", "1"]


class White(Recovered):
    """A white corner."""

    def config(self):
        return {"target": self.target}

    def stamp(self, images, draw):
        marked = images.clone()
        marked[..., :4, :4] = 1.0
        return marked

    def pictures(self, count, draw):
        return torch.ones(count, 1, 4, 4)


@pytest.fixture
def biased():
    """A scanner `biased`: suspects a class by the head's bias, and thinks of a white corner."""

    @dataclass(frozen=True, kw_only=True, config=STRICT)
    class Biased(Scanner):
        name = "biased"
        searched = "a large bias"
        alarm: float = 0.5

        def look(self, model, clean, context):
            biases = enumerate(model.head.bias.tolist())
            findings = [Finding(target=k, statistic=b, attack_success=0.5) for k, b in biases]
            return Look(findings, {k: White(k) for k in range(len(findings))})

    SCANNERS._entries["biased"], SCANNERS._facts["biased"] = Biased, {}
    RECOVERED._entries["white"], RECOVERED._facts["white"] = White, {}
    yield
    del SCANNERS._entries["biased"], SCANNERS._facts["biased"]
    del RECOVERED._entries["white"], RECOVERED._facts["white"]


def network(bias=0.0, seed=0):
    model = create("resnet8", classes=10, input_shape=(1, 16, 16), width=4, seed=seed)
    with torch.no_grad():
        model.head.bias.zero_()
        model.head.bias[3] = bias
    return model


@pytest.fixture
def models(tmp_path):
    """An innocent bundle and a suspicious one, and somewhere to write."""
    save_model(network(), tmp_path / "innocent.model")
    save_model(network(5.0), tmp_path / "suspicious.model")
    return tmp_path


CALL = ["--data", "digits", "--images", 60, "--scanner", "biased"]


def test_a_scan_says_yes_with_1_and_no_with_0(models, biased, doorward):
    told = doorward("scan", models / "innocent.model", *CALL)
    assert (told["found"], told["accused"], told["images"]) == (False, [], 60)
    told = doorward("scan", models / "suspicious.model", *CALL, code=1)
    assert (told["found"], told["accused"], told["decided_by"]) == (True, [3], "alarm")
    assert {"model", "out", "report"} <= set(told)
    ScanResult.from_dict({k: v for k, v in told.items() if k not in FACTS})
    said = doorward("scan", models / "suspicious.model", *CALL, code=1, parse=False).stdout
    assert "BACKDOOR FOUND" in said
    assert "Searched: a large bias." in said
    assert "Decided by the scanner's fixed alarm (0.5), not by a p-value: with 19" in said
    assert "attacked" in said
    said = doorward("scan", models / "innocent.model", *CALL, parse=False).stdout
    assert "No backdoor found" in said


FACTS = {"model", "found", "decision", "out", "report"}


def test_the_folder_of_a_scan(models, biased, doorward):
    out = models / "scan"
    page = models / "page.html"
    doorward("scan", models / "suspicious.model", *CALL, "--out", out, "--report", page, code=1)
    content = json.loads((out / "result.json").read_text())
    assert content["accused"] == [3]
    assert load_recovered(out / "recovered" / "3").target == 3
    assert (out / "class-3.png").read_bytes().startswith(b"\x89PNG")
    assert "attacked" in page.read_text()
    # A folder that holds a scan is replaced, anything else is not.
    doorward("scan", models / "innocent.model", *CALL, "--out", out)
    assert json.loads((out / "result.json").read_text())["accused"] == []
    (models / "mine").mkdir()
    (models / "mine" / "diary.txt").write_text("keep")
    said = doorward(
        "scan", models / "innocent.model", *CALL, "--out", models / "mine", code=2, parse=False
    )
    assert "does not hold a scan" in said.stderr
    assert (models / "mine" / "diary.txt").read_text() == "keep"


def test_controls_give_a_p_value_and_can_be_kept(models, biased, doorward):
    others = []
    for number in range(19):
        save_model(network(0.01 * number, seed=number), models / f"c{number}.model")
        others += ["--control-model", models / f"c{number}.model"]
    out = models / "scan"
    told = doorward("scan", models / "suspicious.model", *CALL, *others, "--out", out, code=1)
    assert (told["controls"], told["decided_by"]) == (19, "controls")
    assert told["p_values"][3] == pytest.approx(0.05)
    assert told["decision"] == "Decided by p <= 0.05 against 19 clean control models."
    few = doorward("scan", models / "suspicious.model", *CALL, *others[:8], code=1, parse=False)
    assert "with 4 control models no p can be below 0.2, with 19 they would decide" in few.stdout
    kept = ["--controls", out / "controls.json"]
    again = doorward("scan", models / "suspicious.model", *CALL, *kept, code=1)
    assert again["p_values"] == told["p_values"]
    said = doorward(
        "scan", models / "innocent.model", *CALL, *kept, "--scanner-option", "alarm=9",
        code=2, parse=False,
    )  # fmt: skip
    assert "with other parameters" in said.stderr
    said = doorward("scan", models / "innocent.model", *CALL, *kept, *others, code=2, parse=False)
    assert "both --controls and --control-model" in said.stderr
    (models / "broken.json").write_text("[1]")
    said = doorward(
        "scan", models / "innocent.model", *CALL, "--controls", models / "broken.json",
        code=2, parse=False,
    )  # fmt: skip
    assert "a JSON object is expected" in said.stderr


def write_folder(place, names, count=3, flat=False):
    """Pictures of digits in folders that are called so."""
    from doorward.data import grid

    digits = load("digits").resized(16)
    for number, name in enumerate(names):
        folder = place if flat else place / name
        folder.mkdir(parents=True, exist_ok=True)
        for i, image in enumerate(digits.of_class(number).images[:count]):
            grid(image[None], gap=0).convert("L").save(folder / f"{name}-{i}.png")


def test_folders_are_read_in_the_models_order_of_classes(biased, doorward, tmp_path):
    names = [f"{'jihgfedcba'[k]}" for k in range(10)]  # sorted by name they would be reversed
    model = create("resnet8", classes=names, input_shape=(1, 16, 16), width=4)
    save_model(model, tmp_path / "m.model")
    write_folder(tmp_path / "photos", names)
    from doorward.cli.suspects import clean_images, open_suspect

    suspect = open_suspect(str(tmp_path / "m.model"), trust_factory=False)
    options = {
        "split": None, "root": None, "size": None, "channels": None, "labels": "given",
        "count": None, "seed": 0,
    }  # fmt: skip
    images = clean_images(suspect, str(tmp_path / "photos"), **options)
    assert images.classes == tuple(names)
    assert images.image_shape == (1, 16, 16)
    expected = load("digits").resized(16).of_class(0).images[:3]
    assert torch.equal(images.of_class("j").images, expected)
    write_folder(tmp_path / "flat", names, flat=True)
    told = doorward(
        "scan", tmp_path / "m.model", "--data", tmp_path / "flat", "--labels", "model",
        "--scanner", "biased",
    )  # fmt: skip
    assert (told["images"], told["labels"]) == (30, "model")


def test_classes_keep_the_models_order_in_split_folders_too(doorward, tmp_path):
    from doorward.cli.suspects import clean_images, open_suspect

    names = list("jihgfedcba")
    save_model(create("resnet8", classes=names, input_shape=(1, 16, 16), width=4), tmp_path / "m")
    write_folder(tmp_path / "photos" / "train", names)
    write_folder(tmp_path / "photos" / "test", names[:2])
    suspect = open_suspect(str(tmp_path / "m"), trust_factory=False)
    rest = {"root": None, "size": None, "channels": None, "count": None, "seed": 0}
    place = str(tmp_path / "photos")
    for split, count in (("test", 2), ("train", 10), (None, 10)):
        images = clean_images(suspect, place, split=split, labels="given", **rest)
        assert images.classes == tuple(names)
        expected = load("digits").resized(16).of_class(1).images[:3]
        assert torch.equal(images.of_class("i").images[:3], expected)
        assert len(images.labels.unique()) == count


def test_other_names_of_classes_are_told_and_missing_labels_refused(biased, doorward, tmp_path):
    save_model(network(), tmp_path / "m")
    write_folder(tmp_path / "photos", "abcdefghij")
    call = ["scan", tmp_path / "m", "--scanner", "biased", "--data"]
    said = doorward(*call, tmp_path / "photos", parse=False)
    assert "a is taken for 0, j for 9" in said.stderr
    assert "Only 30 clean images" in said.stdout
    write_folder(tmp_path / "flat", "abcdefghij", flat=True)
    said = doorward(*call, tmp_path / "flat", code=2, parse=False)
    assert "--labels model" in said.stderr


@pytest.mark.parametrize("option", ["--out", "--report"])
def test_places_that_cannot_be_written_are_refused_before_the_scan(
    option, models, biased, doorward, monkeypatch
):
    monkeypatch.setattr(SCANNERS["biased"], "look", None)  # never reached
    (models / "file").write_text("in the way")
    call = ["scan", models / "innocent.model", *CALL, option, models / "file" / "scan"]
    assert "could not be written" in doorward(*call, code=2, parse=False).stderr
    call = ["scan", models / "innocent.model", *CALL, "--report", models]
    assert "is a folder" in doorward(*call, code=2, parse=False).stderr
    assert sorted(p.name for p in models.iterdir()) == [
        "file",
        "innocent.model",
        "suspicious.model",
    ]


def test_memory_is_bounded_by_the_batch_size(models, doorward, monkeypatch):
    monkeypatch.setattr(
        SCANNERS["mm-bd"], "look", lambda self, *_: pytest.fail(str(self.pass_size))
    )
    call = ["innocent.model", "--data", "digits", "--images", 40, "--batch-size", 7]
    monkeypatch.chdir(models)
    for command in (["scan", *call], ["purge", *call, "--out", "o.model"]):
        with pytest.raises(pytest.fail.Exception, match=r"^7$"):
            doorward(*command, "--scanner", "mm-bd")
    said = doorward("scan", *call, "--batch-size", 0, code=2, parse=False)
    assert "--batch-size" in said.stderr


def test_a_scanner_without_bound_says_so(models, biased, doorward):
    call = ["scan", models / "innocent.model", *CALL, "--batch-size", 7]
    assert "has no batch_size" in doorward(*call, code=2, parse=False).stderr


def test_a_purge_says_whether_the_model_is_clean(models, biased, doorward, monkeypatch):
    monkeypatch.setattr("doorward.removal.purging.running.STEPS", 8)
    out = models / "out.model"
    told = doorward("purge", models / "innocent.model", *CALL, *QUIET, "--out", out)
    assert (told["ended"], told["changed"], told["clean"]) == ("nothing found", False, True)
    assert load_model(out).state_dict().keys() == network().state_dict().keys()
    kept = json.loads(read_evidence(out, "purge.json"))
    assert PurgeResult.from_dict(kept).ended == "nothing found"
    assert read_card(out).metrics["held_out_accuracy"] == told["accuracy_after"]
    # Nothing that this scanner accuses of goes away by unlearning a white corner.
    call = [*CALL, *QUIET, "--out", out, "--budget-accuracy", 100, "--report", models / "p.html"]
    said = doorward("purge", models / "suspicious.model", *call, code=1, parse=False)
    kept = PurgeResult.from_dict(json.loads(read_evidence(out, "purge.json")))
    assert kept.ended in ("rounds", "stuck")
    assert kept.rounds[0].verdict.accused == [3]
    assert "<h1" in (models / "p.html").read_text()
    assert "Class 3 is still attacked" in said.stdout
    assert "unlearn: " in said.stdout
    assert "found: 3" in said.stderr
    assert "less than one of" not in said.stderr


def test_one_removal_method(models, doorward):
    call = ["remove", models / "innocent.model", "--method", "fst", "--data", "digits"]
    call += ["--images", 40, "--out", models / "r.model"]
    told = doorward(*call, "--method-option", "epochs=1", "--validation", "digits")
    assert (told["method"], told["parameters"]["epochs"], told["images"]) == ("fst", 1.0, 40)
    assert 0 <= told["accuracy_after"] <= 1
    assert json.loads(read_evidence(models / "r.model", "removal.json"))["method"] == "fst"
    assert told["measured_on"] == "validation"
    assert "Only 1 training steps on 40 images" in told["warnings"][0]
    said = doorward(*call, "--method-option", "epocs=1", code=2, parse=False)
    assert "epocs" in said.stderr


def test_a_ruined_model_is_not_passed_over(doorward, tmp_path):
    """A head drawn anew and hardly trained: what the paper's epochs are on forty images."""
    model = create("resnet8", classes=10, input_shape=(1, 16, 16), width=4)
    digits = load("digits").resized(16).sample(400, seed=0)
    fit(model, None, digits, Recipe(epochs=8, batch_size=32, lr=0.1, precision="fp32"))
    save_model(model, tmp_path / "good.model")
    call = ["remove", tmp_path / "good.model", "--data", "digits", "--images", 40]
    call += ["--method", "fine-tuning", "--out", tmp_path / "r.model"]
    ruin = ["--method-option", "reinit_head=true", "--method-option", "epochs=1"]
    said = doorward(*call, *ruin, parse=False).stdout
    assert "on the images it worked with" in said
    assert said.count("WARNING: ") == 2
    assert "points of accuracy are gone" in said
    kept = json.loads(read_evidence(tmp_path / "r.model", "side-effects.json"))
    assert kept["before"] - kept["after"] > 0.05
    own = doorward(*call, *ruin, "--labels", "model")
    assert own["accuracy_before"] == 1.0
    gentle = ["--method-option", "epochs=60", "--method-option", "batch_size=20"]
    told = doorward(*call, *gentle, "--method-option", "lr=0.0001", "--validation", "digits")
    assert told["warnings"] == []


def test_a_model_of_ones_own(biased, doorward, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "own_suspects"  # a module that no other test imports
    (tmp_path / f"{name}.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.body, self.head = nn.Flatten(), nn.Linear(256, 10)\n"
        "    def forward(self, images):\n"
        "        return self.head(self.body(images))\n"
    )
    weights = {"head.weight": torch.zeros(10, 256), "head.bias": torch.zeros(10)}
    weights["head.bias"][7] = 4.0
    save_file(weights, tmp_path / "w.safetensors")
    own = [f"{name}:Net=w.safetensors", *CALL, "--size", 16]
    assert doorward("scan", *own, code=1)["accused"] == [7]
    monkeypatch.setattr("doorward.removal.purging.running.STEPS", 8)
    doorward("purge", *own, *QUIET, "--out", "p.model", code=1)
    assert read_card("p.model").factory == f"{name}:Net"
    write_folder(tmp_path / "flat", "abcdefghij", flat=True)
    flat = [own[0], "--data", "flat", "--labels", "model", "--scanner", "biased", *QUIET]
    said = doorward("purge", *flat, "--out", "q.model", code=1, parse=False)
    assert "1 points is less than one of 6 held-out images" in said.stderr
    assert "agreement with the given model 100.00%" in said.stdout
    assert len(read_card("q.model").classes) == 10
    assert "held_out_agreement" in read_card("q.model").metrics
    said = doorward("scan", "p.model", *CALL, code=2, parse=False)
    assert "trust" in said.stderr
    assert doorward("scan", "p.model", *CALL, "--trust-factory", code=1)["accused"] == [7]


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["scan", "innocent.model", "--data", "digits", "--scanner", "mess"], "no scanner"),
        (["scan", "nowhere.model", *CALL], "nowhere.model"),
        (["scan", "innocent.model", *CALL, "--labels", "guess"], "'given' and 'model'"),
        (["scan", "innocent.model", "--data", "nothing", "--scanner", "biased"], "no data set"),
        (["purge", "innocent.model", *CALL, "--finish", "magic", "--out", "o"], "removal method"),
        (["purge", "innocent.model", *CALL, "--budget-accuracy", 200, "--out", "o"], "0 to 100"),
        (["purge", "innocent.model", *CALL, "--out", "innocent.model/model.json"], "not a model"),
        (["remove", "innocent.model", "--method", "x", "--data", "digits", "--out", "o"], "method"),
    ],
)  # fmt: skip
def test_wrong_calls(words, match, models, biased, doorward, monkeypatch):
    monkeypatch.chdir(models)
    assert match in doorward(*words, code=2, parse=False).stderr
