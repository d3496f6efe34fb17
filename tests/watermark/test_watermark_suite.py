"""The attack table: every attack on a small marked model, what it leaves, and how it resumes."""

import dataclasses
import json

import pytest
import torch
from torch import nn

from doorward.data import ImageData, load
from doorward.errors import BadFile, InvalidInput, UnknownName
from doorward.metrics import accuracy
from doorward.models import create, find_head
from doorward.removal import REMOVALS
from doorward.training import Recipe
from doorward.watermark import WatermarkKey, count_matches, embed
from doorward.watermark.suite import (
    ATTACKS,
    FAMILIES,
    Attack,
    AttackTable,
    Thief,
    attack_table,
    standard_attacks,
    strike,
    summarise,
)
from doorward.watermark.suite.running import _weights_digest

N = 30


@pytest.fixture(scope="module")
def digits():
    return load("digits").resized(16)


@pytest.fixture(scope="module")
def test_set():
    return load("digits", split="test").resized(16)


@pytest.fixture(scope="module")
def marked(digits):
    """A small marked model with its key."""
    key = WatermarkKey.new(n=N, classes=10, image_shape=(1, 16, 16))
    model = create("resnet8", classes=10, input_shape=(1, 16, 16), width=8)
    embed(model, digits, key, Recipe(epochs=8, batch_size=64, lr=0.2, precision="fp32"))
    assert count_matches(key, model) >= N - 2
    return model, key


@pytest.fixture(scope="module")
def thief(digits):
    shapes = torch.rand(60, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    other = ImageData((shapes * 255).byte(), torch.arange(60) % 3, ("a", "b", "c"), "noise")
    recipe = Recipe(epochs=1, batch_size=64, lr=0.1, precision="fp32")
    return Thief(data=digits.sample(300, seed=1), recipe=recipe, other=other)


def test_every_standard_attack_is_known_and_labelled_once():
    attacks = standard_attacks()
    labels = [attack.label for attack in attacks]
    assert len(set(labels)) == len(labels)
    for attack in attacks:
        assert attack.method in ATTACKS or attack.method in REMOVALS
    assert {attack.method for attack in attacks} >= set(ATTACKS)
    assert sum(label.startswith("FT") for label in labels) == 8  # FTLL and FTAL at four rates
    parts = standard_attacks(families=["fine-tuning"], rates=[1e-2], shares=[0.1, 1.0])
    assert [a.share for a in parts if a.label.startswith("FTAL")] == [0.1, 1.0]


def test_a_family_that_does_not_exist_is_named():
    with pytest.raises(UnknownName, match="fine-tuning"):
        standard_attacks(families=["finetuning"])


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_leaves_the_model_alone_and_reports_what_is_left(
    family, marked, thief, test_set
):
    model, key = marked
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    attacks = standard_attacks(families=[family], epochs=0.5, rates=(1e-3,), mask_steps=20)
    table = attack_table(model, key, thief, test_set, attacks)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    untouched, *rows = table.rows
    assert untouched.attack.method == "none"
    assert untouched.accuracy == accuracy(model, test_set)
    assert untouched.matches == count_matches(key, model)
    assert len(rows) == len(attacks)
    for row in rows:
        assert row.n == N
        assert 0 <= row.matches <= N
        assert row.interval[0] <= row.trigger_accuracy <= row.interval[1]
        if row.accuracy is not None:
            assert row.cost == pytest.approx(100 * (untouched.accuracy - row.accuracy))


def test_quantisation_leaves_the_mark_and_a_new_network_does_not(marked, thief, test_set):
    model, key = marked
    attacks = standard_attacks(families=["quantisation"])
    for row in attack_table(model, key, thief, test_set, attacks).rows:
        assert row.survived(-30), row
    fresh = create("resnet8", classes=10, input_shape=(1, 16, 16), width=8, seed=9)
    row = attack_table(fresh, key, thief, test_set, []).rows[0]
    assert not row.survived(-30)


def test_a_new_head_is_asked_through_the_old_one(marked, thief):
    model, key = marked
    attack = Attack(
        method="fine-tuning",
        parameters={"layers": "last", "reinit_head": True, "batchnorm": "frozen", "epochs": 1.0},
    )
    struck = strike(model, key, attack, thief)
    assert struck.old_head
    # The body is as it was, so through the old head every answer is as it was.
    assert count_matches(key, struck.asked) == count_matches(key, model)
    assert not torch.equal(find_head(struck.suspect)[1].weight, find_head(model)[1].weight)
    plain = dataclasses.replace(attack, parameters={"epochs": 1.0}, label="")
    assert not strike(model, key, plain, thief).old_head


def test_transfer_learns_the_other_task_and_keeps_the_old_head(marked, thief):
    model, key = marked
    struck = strike(model, key, Attack(method="transfer", parameters={"epochs": 1.0}), thief)
    assert find_head(struck.suspect)[1].out_features == 3
    assert find_head(struck.asked)[1].out_features == 10
    assert struck.facts["task"] == "noise"


def test_transfer_without_another_task_is_refused(marked, thief):
    model, key = marked
    alone = dataclasses.replace(thief, other=None)
    with pytest.raises(InvalidInput, match="another task"):
        strike(model, key, Attack(method="transfer"), alone)


def test_overwriting_plants_the_second_mark(marked, thief):
    model, key = marked
    struck = strike(model, key, Attack(method="overwriting", parameters={"epochs": 20.0}), thief)
    assert struck.facts["second_trigger_accuracy"] > 0.5


def test_the_share_decides_how_many_images_are_used(marked, thief, monkeypatch):
    model, key = marked
    seen = []

    def remember(model, clean, method, **_):
        seen.append(len(clean))
        return model, type("Result", (), {"details": {}})()

    monkeypatch.setattr("doorward.watermark.suite.attack.remove", remember)
    for share in (1.0, 0.5, 0.001):
        strike(model, key, Attack(method="quantisation", share=share), thief)
    assert seen == [300, 150, 10]  # never fewer than one per class


def test_statistics_of_batchnorm_stay_where_they_are_told_to(marked, thief, test_set):
    """RTLL trains the head alone: through the old head, frozen statistics change no answer."""
    model, key = marked
    drift, still = (
        standard_attacks(families=["fine-tuning"], rates=[1e-2], epochs=1, batchnorm=kind)
        for kind in ("train", "frozen")
    )
    assert {attack.digest() for attack in drift} == {
        attack.digest()
        for attack in standard_attacks(families=["fine-tuning"], rates=[1e-2], epochs=1)
    }
    assert [a.label for a in still[:4]] == [f"{a.label}, BatchNorm still" for a in drift[:4]]
    rtll = next(attack for attack in still if attack.label.startswith("RTLL"))
    row = attack_table(model, key, thief, test_set, [rtll]).rows[1]
    assert row.matches == count_matches(key, model)


def test_an_attack_that_blows_up_does_not_end_the_table(marked, thief, test_set, tmp_path):
    model, key = marked
    wild = Attack(method="fine-tuning", parameters={"lr": 1e6, "epochs": 2.0}, label="wild")
    path = tmp_path / "attacks.json"
    attacks = [wild, Attack(method="quantisation")]
    table = attack_table(model, key, thief, test_set, attacks, path=path)
    assert [row.attack.method for row in table.rows] == ["none", "quantisation"]
    assert "diverged" in table.diverged["wild"]
    assert AttackTable.from_dict(json.loads(path.read_text())) == table


def test_seeds_are_summed_up(marked, thief, test_set):
    model, key = marked
    table = attack_table(model, key, thief, test_set, [])
    (untouched,) = table.rows

    def seed(number, matches, accuracy, log2_p):
        row = dataclasses.replace(
            untouched, attack=Attack(method="anp"), matches=matches, accuracy=accuracy,
            cost=100 * (0.9 - accuracy), log2_p=log2_p, seconds=2.0 * number,
        )  # fmt: skip
        identity = {**table.identity, "seed": number}
        return dataclasses.replace(table, identity=identity, rows=[untouched, row])

    tables = [seed(1, 30, 0.9, -90.0), seed(2, 15, 0.8, -20.0), seed(3, 18, 0.85, -30.0)]
    calm, attacked = summarise(tables)
    assert (calm.matches.mean, calm.matches.deviation) == (untouched.trigger_accuracy, 0)
    assert attacked.matches.values == (1.0, 0.5, 0.6)
    assert attacked.matches.mean == pytest.approx(0.7)
    assert attacked.matches.deviation == pytest.approx(0.07**0.5)
    assert (attacked.proofs, attacked.weakest) == ((-90.0, -20.0, -30.0), -20.0)
    assert attacked.accuracy.mean == pytest.approx(0.85)
    assert attacked.cost.deviation == pytest.approx(5)
    assert attacked.seconds.mean == 4
    assert len(summarise([tables[0], dataclasses.replace(tables[1], rows=[untouched])])) == 1
    other = dataclasses.replace(tables[1], identity={**table.identity, "model": "x"})
    with pytest.raises(InvalidInput, match="these differ: model"):
        summarise([tables[0], other])
    with pytest.raises(InvalidInput, match="no attack tables"):
        summarise([])


def test_a_table_is_taken_up_where_it_stopped(marked, thief, test_set, tmp_path):
    model, key = marked
    path = tmp_path / "attacks.json"
    first, second = standard_attacks(families=["quantisation"])
    attack_table(model, key, thief, test_set, [first], path=path)
    new = []
    table = attack_table(model, key, thief, test_set, [first, second], path=path, on_row=new.append)
    assert [row.attack.label for row in new] == [second.label]
    assert AttackTable.from_dict(json.loads(path.read_text())) == table
    # Rows that are not asked for are kept.
    attack_table(model, key, thief, test_set, [], path=path)
    assert len(json.loads(path.read_text())["rows"]) == 3


def test_a_table_about_another_model_is_not_mixed_up(marked, thief, test_set, tmp_path):
    model, key = marked
    path = tmp_path / "attacks.json"
    attack_table(model, key, thief, test_set, [], path=path)
    other = create("resnet8", classes=10, input_shape=(1, 16, 16), width=8, seed=3)
    with pytest.raises(InvalidInput, match="these differ: model"):
        attack_table(other, key, thief, test_set, [], path=path)


@pytest.mark.parametrize(
    ("attack", "error"),
    [
        (Attack(method="magic"), UnknownName),
        (Attack(method="magnitude-pruning", parameters={"share": 2.0}), InvalidInput),
        (Attack(method="magnitude-pruning", parameters={"shear": 0.5}), InvalidInput),
        (Attack(method="overwriting", parameters={"epoch": 1.0}), InvalidInput),
        (Attack(method="extraction", parameters={"model": "x"}), InvalidInput),
    ],
)
def test_attacks_that_cannot_be_are_refused_before_any_begins(
    attack, error, marked, thief, test_set
):
    model, key = marked
    rows = []
    first = Attack(method="quantisation")
    with pytest.raises(error):
        attack_table(model, key, thief, test_set, [first, attack], on_row=rows.append)
    assert rows == []


def test_what_does_not_fit_is_said_before_any_attack(marked, thief, test_set):
    model, key = marked
    rows = []

    def table(thief, validation, **options):
        attacks = standard_attacks(families=["quantisation", "transfer"])
        attack_table(model, key, thief, validation, attacks, on_row=rows.append, **options)

    with pytest.raises(InvalidInput, match="another task"):
        table(dataclasses.replace(thief, other=None), test_set)
    with pytest.raises(InvalidInput, match="test images"):
        table(thief, test_set.resized(20))
    with pytest.raises(InvalidInput, match="thief's images"):
        table(dataclasses.replace(thief, data=thief.other), test_set)
    with pytest.raises(InvalidInput, match="carriers"):
        table(thief, test_set, carriers=test_set.with_channels(3))
    assert rows == []


@pytest.mark.parametrize("content", ["5", "[1]", "[]", "{}", '{"rows": 3}', "not JSON"])
def test_a_file_that_is_no_table_is_refused(content, marked, thief, test_set, tmp_path):
    model, key = marked
    path = tmp_path / "attacks.json"
    path.write_text(content)
    with pytest.raises((BadFile, InvalidInput)):
        attack_table(model, key, thief, test_set, [], path=path)
    assert path.read_text() == content


def test_a_foreign_network_of_oblong_images_is_attacked_in_every_family(digits):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(),
        nn.Linear(128, 10),
    )  # fmt: skip
    oblong = digits.resized((16, 20)).sample(60, seed=0)
    key = WatermarkKey.new(n=20, classes=10, image_shape=(1, 16, 20))
    recipe = Recipe(epochs=1, batch_size=30, lr=0.01, precision="fp32")
    thief = Thief(data=oblong, recipe=recipe, other=digits.sample(40, seed=1))
    families = [name for name in FAMILIES if name != "unlearning"]  # those look for blocks
    attacks = standard_attacks(families=families, epochs=1.0, rates=(1e-3,))
    table = attack_table(net, key, thief, oblong, attacks, carriers=oblong)
    assert len(table.rows) == 1 + len(attacks)


def test_weights_that_numpy_does_not_know_can_be_named():
    assert len(_weights_digest(nn.Linear(2, 2).to(torch.bfloat16))) == 64


def test_a_thief_who_overwrites_twice_does_the_same(marked, thief):
    model, key = marked
    attack = Attack(method="overwriting", parameters={"epochs": 0.2})
    first, second = (strike(model, key, attack, thief).suspect.state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_asking_through_carriers_counts_with_a_doubled_p_value(marked, thief, test_set):
    model, key = marked
    alone = attack_table(model, key, thief, test_set, []).rows[0]
    assert alone.blended_log2_p is None
    assert alone.proof == alone.log2_p
    both = attack_table(model, key, thief, test_set, [], carriers=test_set).rows[0]
    assert both.proof == 1 + min(both.log2_p, both.blended_log2_p)
    weak = dataclasses.replace(both, log2_p=-0.5, blended_log2_p=-0.2)
    assert weak.proof == 0


def test_the_worst_row_is_the_weakest_proof_among_cheap_attacks(marked, thief, test_set):
    model, key = marked
    table = attack_table(model, key, thief, test_set, [])
    base = table.rows[0]

    def row(label, log2_p, cost):
        named = Attack(method="none", label=label)
        return dataclasses.replace(base, attack=named, log2_p=log2_p, cost=cost)

    rows = [row("dear", -1.0, 9.0), row("cheap", -40.0, 1.0), row("other task", -30.0, None)]
    table = dataclasses.replace(table, rows=rows)
    assert table.worst(2.0).attack.label == "other task"
    assert table.worst(20.0).attack.label == "dear"
    with pytest.raises(InvalidInput, match="negative"):
        table.worst(-1.0)
