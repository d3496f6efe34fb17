"""Label rules by hand, backdoors on disk, and what attack success counts."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from doorward.errors import BadFile, InvalidInput, UnknownName
from doorward.metrics import attack_outcome, attack_success, der, robust_accuracy
from doorward.triggers import (
    RULES,
    TRIGGERS,
    AllToAll,
    AllToOne,
    Backdoor,
    Blend,
    CleanLabel,
    Patch,
    SourceToTarget,
)

CLEAN = torch.tensor([0, 1, 2, 3, 1])
T, F = True, False


@pytest.mark.parametrize(
    ("rule", "labels", "eligible", "poisonable", "training"),
    [
        (AllToOne(1), [1, 1, 1, 1, 1], [T, F, T, T, F], [T, F, T, T, F], [1, 1, 1, 1, 1]),
        (AllToAll(4), [1, 2, 3, 0, 2], [T] * 5, [T] * 5, [1, 2, 3, 0, 2]),
        (AllToAll(4, shift=-1), [3, 0, 1, 2, 0], [T] * 5, [T] * 5, [3, 0, 1, 2, 0]),
        (
            SourceToTarget((1, 3), 0),
            [0, 0, 2, 0, 0],
            [F, T, F, T, T],
            [F, T, F, T, T],
            [0, 0, 2, 0, 0],
        ),
        (CleanLabel(1), [1, 1, 1, 1, 1], [T, F, T, T, F], [F, T, F, F, T], [0, 1, 2, 3, 1]),
    ],
    ids=str,
)
def test_rules_by_hand(rule, labels, eligible, poisonable, training):
    assert rule.labels(CLEAN).tolist() == labels
    assert rule.eligible(CLEAN).tolist() == eligible
    assert rule.poisonable(CLEAN).tolist() == poisonable
    assert rule.training_labels(CLEAN).tolist() == training
    assert CLEAN.tolist() == [0, 1, 2, 3, 1]


RULE_EXAMPLES = {
    "all-to-one": AllToOne(2),
    "all-to-all": AllToAll(4, shift=3),
    "source-to-target": SourceToTarget((3, 1), 2),
    "clean-label": CleanLabel(3),
}


def test_every_rule_is_tested():
    assert set(RULE_EXAMPLES) == set(RULES)


@pytest.mark.parametrize("name", RULE_EXAMPLES)
@given(labels=st.lists(st.integers(0, 3), max_size=20))
def test_attack_success_never_counts_the_targets_own(name, labels):
    rule = RULE_EXAMPLES[name]
    clean = torch.tensor(labels, dtype=torch.int64)
    wanted = rule.labels(clean)
    assert wanted.dtype == torch.int64
    assert not (rule.eligible(clean) & (wanted == clean)).any()
    assert bool(((wanted >= 0) & (wanted < 4)).all())


@pytest.mark.parametrize(
    "build",
    [
        lambda: AllToOne(-1),
        lambda: AllToOne("car"),
        lambda: AllToAll(1),
        lambda: AllToAll(4, shift=8),
        lambda: SourceToTarget((), 1),
        lambda: SourceToTarget((1, 2), 1),
        lambda: CleanLabel(-2),
    ],
)
def test_impossible_rules_are_refused(build):
    with pytest.raises(ValueError, match="validation error"):
        build()


@pytest.mark.parametrize(
    ("rule", "classes"),
    [(AllToOne(3), 3), (AllToAll(4), 5), (SourceToTarget((4,), 0), 4), (CleanLabel(9), 9)],
)
def test_rules_for_other_classes_are_refused(rule, classes):
    with pytest.raises(InvalidInput, match="classes"):
        rule.check(classes)


@pytest.mark.parametrize("name", RULE_EXAMPLES)
def test_backdoor_round_trip(name, tmp_path):
    backdoor = Backdoor(Blend(pattern="given", image=torch.rand(1, 4, 4)), RULE_EXAMPLES[name])
    backdoor.save(tmp_path / "b")
    again = Backdoor.load(tmp_path / "b")
    x = torch.rand(5, 3, 8, 8)
    for one, other in zip(again(x, CLEAN), backdoor(x, CLEAN), strict=True):
        assert torch.equal(one, other)
    assert again.to_dict() == json.loads(json.dumps(backdoor.to_dict()))
    plain = Backdoor(Patch(size=2), RULE_EXAMPLES[name])
    assert Backdoor.from_dict(plain.to_dict()).to_dict() == plain.to_dict()


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ({}, InvalidInput),
        ({"trigger": {"name": "patch"}}, InvalidInput),
        ({"trigger": 3, "rule": 4}, InvalidInput),
        ({"trigger": {"name": "path"}, "rule": {"name": "all-to-one"}}, UnknownName),
        ({"trigger": {"name": "patch"}, "rule": {"name": "one-to-one"}}, UnknownName),
        ({"trigger": {"name": "patch"}, "rule": {"name": "all-to-one", "goal": 1}}, InvalidInput),
        ({"trigger": {"name": "patch", "size": -1}, "rule": {"name": "all-to-one"}}, InvalidInput),
    ],
)
def test_nonsense_is_no_backdoor(content, error):
    with pytest.raises(error):
        Backdoor.from_dict(content)


def test_a_trigger_alone_is_no_backdoor(tmp_path):
    Patch().save(tmp_path / "t")
    with pytest.raises(BadFile, match="without a label rule"):
        Backdoor.load(tmp_path / "t")
    with pytest.raises(InvalidInput, match="a Trigger and a LabelRule"):
        Backdoor(Patch(), "all-to-one")


def test_unregistered_triggers_are_not_saved(tmp_path):
    class Own(TRIGGERS["sinusoid"]):
        pass

    with pytest.raises(InvalidInput, match="not a registered trigger"):
        Own().save(tmp_path / "t")
    assert not (tmp_path / "t").exists()


class Corner(nn.Module):
    """Backdoored by construction: a white corner pixel means class 0, else the mean grey level."""

    def forward(self, images: Tensor) -> Tensor:
        answer = (images[:, 0, 0, 0] * 255).round().long()
        answer[images[:, 0, -1, -1] == 1] = 0
        return nn.functional.one_hot(answer, 4).float()


class Greys:
    """Images whose grey level is their label."""

    name, classes, num_classes = "greys", ("a", "b", "c", "d"), 4

    def __init__(self, labels):
        self.labels = torch.tensor(labels)

    def __len__(self):
        return len(self.labels)

    def fetch(self, indices):
        labels = self.labels[indices]
        return labels.to(torch.uint8)[:, None, None, None].expand(-1, 1, 4, 4), labels


def test_attack_success_by_hand():
    source = Greys([0, 0, 1, 2, 3])
    backdoor = Backdoor(Patch(size=1), AllToOne(0))
    assert attack_success(Corner(), source, backdoor) == 1
    assert robust_accuracy(Corner(), source, backdoor) == 0
    # The patch elsewhere does nothing: all three counted images keep their label.
    harmless = Backdoor(Patch(size=1, position=(0, 2)), AllToOne(0))
    outcome = attack_outcome(Corner(), source, harmless, batch_size=2)
    assert (outcome.attack_success, outcome.robust_accuracy, outcome.images) == (0, 1, 3)
    # Of the images of classes 1 and 2 the model sends all to 0, which is not what is wanted.
    other = Backdoor(Patch(size=1), SourceToTarget((1, 2), 3))
    outcome = attack_outcome(Corner(), source, other)
    assert (outcome.attack_success, outcome.robust_accuracy, outcome.images) == (0, 0, 2)


def test_attack_success_refuses_what_cannot_be_measured():
    with pytest.raises(InvalidInput, match="no image of 'greys'"):
        attack_success(Corner(), Greys([0, 0]), Backdoor(Patch(), AllToOne(0)))
    with pytest.raises(InvalidInput, match="needs class 4"):
        attack_success(Corner(), Greys([0, 1]), Backdoor(Patch(), AllToOne(4)))


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ((0.9, 1.0), (0.9, 1.0), 0.5),
        ((0.9, 1.0), (0.9, 0.0), 1.0),
        ((0.9, 1.0), (0.7, 0.0), 0.9),
        ((0.9, 1.0), (0.95, 0.5), 0.75),
        ((1.0, 0.0), (0.0, 1.0), 0.0),
    ],
)
def test_der_by_hand(before, after, expected):
    found = der(
        accuracy_before=before[0],
        accuracy_after=after[0],
        attack_before=before[1],
        attack_after=after[1],
    )
    assert found == pytest.approx(expected)


def test_der_refuses_per_cent():
    with pytest.raises(InvalidInput, match="92"):
        der(accuracy_before=92, accuracy_after=0.9, attack_before=1, attack_after=0)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 300) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
OPTIONS = st.sampled_from(
    [
        "size",
        "position",
        "margin",
        "colour",
        "pattern",
        "opacity",
        "seed",
        "alpha",
        "image",
        "delta",
        "frequency",
        "direction",
        "k",
        "s",
        "grid_rescale",
        "kind",
        "ghost",
        "shift",
        "sigma",
        "amplitude",
        "cutoff",
        "magnitude",
        "positions",
        "block",
        "levels",
        "dither",
    ]
)


@settings(max_examples=300, deadline=None)
@given(
    name=st.sampled_from(list(TRIGGERS)),
    options=st.dictionaries(OPTIONS, JSON, max_size=2),
    rule=st.dictionaries(st.sampled_from(["target", "classes", "sources", "shift"]), JSON),
    rule_name=st.sampled_from(list(RULES)),
)
def test_any_description_is_read_or_refused(name, options, rule, rule_name):
    content = {"trigger": {"name": name, **options}, "rule": {"name": rule_name, **rule}}
    try:
        backdoor = Backdoor.from_dict(content)
    except InvalidInput:
        return
    assert Backdoor.from_dict(backdoor.to_dict()).to_dict() == backdoor.to_dict()
