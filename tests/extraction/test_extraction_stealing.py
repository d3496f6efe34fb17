"""Thefts: agreement, budgets, resumption, every kind of victim, and calls that cannot work."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from doorward.bundles import save_model
from doorward.data import Augment, ImageData, load
from doorward.errors import EndpointFailed, InvalidInput, ModelUnsuitable, UnknownName
from doorward.extraction import (
    EXTRACTIONS,
    KnockoffRandom,
    StealResult,
    default_recipe,
    procedural_pool,
    steal,
)
from doorward.metrics import predict
from doorward.models import HttpBox
from doorward.training import Recipe

SHORT = Recipe(epochs=1, batch_size=64)
THOROUGH = Recipe(epochs=12, batch_size=32, lr=0.1, augment=Augment(pad_crop=1))
SMALL = {"width": 4}


@pytest.mark.parametrize("answers", ["soft", "label", "top-3", "rounded-1"])
def test_a_substitute_agrees_with_its_victim(
    answers: str, victim: nn.Module, pool: ImageData, test_images: ImageData
) -> None:
    before = {name: value.clone() for name, value in victim.state_dict().items()}
    substitute, result = steal(
        victim,
        pool,
        budget=300,
        answers=answers,
        options={"width": 8},
        recipe=THOROUGH,
        validation=test_images,
        seed=3,
    )
    assert result.agreement > 0.8  # chance is 0.1
    assert result.accuracy > 0.8
    theirs, ours = (predict(model, test_images).argmax(1) for model in (victim, substitute))
    assert result.agreement == pytest.approx((theirs == ours).double().mean().item())
    assert result.victim_accuracy == pytest.approx(
        (theirs == test_images.labels).double().mean().item()
    )
    assert (result.queries, result.transfer_images, result.budget) == (300, 300, 300)
    assert (result.answers, result.method, result.pool) == (answers, "knockoff-random", "digits")
    assert not substitute.training
    assert StealResult.from_dict(result.to_dict()) == result
    assert all(torch.equal(before[name], value) for name, value in victim.state_dict().items())


def test_synthetic_images_steal_far_more_than_chance(
    victim: nn.Module, test_images: ImageData
) -> None:
    pool = procedural_pool(900, (1, 16, 16), seed=5)
    recipe = Recipe(epochs=12, batch_size=64, lr=0.1, augment=Augment(pad_crop=2))
    _, result = steal(
        victim, pool, budget=900, options={"width": 8}, recipe=recipe, validation=test_images
    )
    assert result.agreement > 0.3


def test_the_seed_decides(victim: nn.Module, pool: ImageData) -> None:
    thefts = [
        steal(victim, pool, budget=64, options=SMALL, recipe=SHORT, seed=seed)[0].head.weight
        for seed in (0, 0, 1)
    ]
    assert torch.equal(thefts[0], thefts[1])
    assert not torch.equal(thefts[0], thefts[2])


def test_a_budget_larger_than_the_pool_is_not_spent(
    victim: nn.Module, pool: ImageData, counting: Any
) -> None:
    box = counting(victim)
    small = pool.sample(40, seed=0)
    _, result = steal(box, small, budget=1000, options=SMALL, recipe=SHORT)
    assert result.queries == len(box.seen) == 40


@pytest.mark.parametrize("where", [0, 32, 80])
def test_a_killed_theft_asks_nothing_twice(
    where: int, victim: nn.Module, pool: ImageData, counting: Any, tmp_path: Path
) -> None:
    box = counting(victim, fail_at=where)
    call = {"budget": 90, "options": SMALL, "recipe": SHORT, "checkpoint": tmp_path / "theft"}
    with pytest.raises(KeyboardInterrupt):
        steal(box, pool, **call)
    substitute, result = steal(box, pool, **call)
    assert len(box.seen) == len(set(box.seen)) == result.queries == 90
    whole, _ = steal(counting(victim), pool, **{**call, "checkpoint": None})
    assert torch.equal(substitute.head.weight, whole.head.weight)
    again, _ = steal(box, pool, **call)  # what is finished is neither asked nor trained again
    assert torch.equal(again.head.weight, whole.head.weight)
    assert len(box.seen) == 90


def test_validation_is_asked_beside_the_budget_and_once(
    victim: nn.Module, pool: ImageData, test_images: ImageData, counting: Any, tmp_path: Path
) -> None:
    box = counting(victim)
    some = test_images.sample(50, seed=0)
    call = {"budget": 30, "options": SMALL, "recipe": SHORT, "validation": some}
    for _ in range(2):
        _, result = steal(box, pool, checkpoint=tmp_path, **call)
    assert (result.queries, result.validation_images, len(box.seen)) == (30, 50, 80)


def test_a_victim_that_knows_labels_only(victim: nn.Module, pool: ImageData, counting: Any) -> None:
    box = counting(victim, labels_only=True)
    with pytest.raises(ModelUnsuitable, match=r"labels only.*answers=\"label\""):
        steal(box, pool, budget=20, recipe=SHORT, options=SMALL)
    with pytest.raises(InvalidInput, match=r"how many classes.*Give num_classes"):
        steal(box, pool, budget=20, recipe=SHORT, options=SMALL, answers="label")
    substitute, result = steal(
        box, pool, budget=20, recipe=SHORT, options=SMALL, answers="label", num_classes=10
    )
    assert result.queries == 20
    assert substitute.num_classes == 10


def test_a_victim_that_does_not_say_how_many_classes_it_has(pool: ImageData) -> None:
    torch.manual_seed(0)
    foreign = nn.Sequential(nn.Flatten(), nn.Linear(256, 6))
    substitute, result = steal(foreign, pool, budget=20, recipe=SHORT, options=SMALL)
    assert substitute.num_classes == 6
    assert result.queries == 20  # the question that showed it is among them


def test_bundles_files_and_modules_of_ones_own(
    victim: nn.Module, pool: ImageData, tmp_path: Path
) -> None:
    save_model(victim, tmp_path / "victim.model")
    own = nn.Sequential(nn.Flatten(), nn.Linear(256, 10))
    trained, result = steal(
        tmp_path / "victim.model", pool, budget=20, recipe=SHORT, substitute=own
    )
    assert trained is own
    assert result.victim["architecture"] == "resnet8"


def test_a_folder_of_pictures_is_a_pool_read_as_it_streams(
    victim: nn.Module, counting: Any, tmp_path: Path
) -> None:
    (tmp_path / "any").mkdir()
    for number, image in enumerate(procedural_pool(24, (1, 16, 16)).images):
        Image.fromarray(image[0].numpy()).save(tmp_path / "any" / f"{number}.png")
    box = counting(victim)
    streamed = load(tmp_path, split="all", stream=True)
    streamed.workers = 0
    call = {"budget": 20, "recipe": SHORT, "options": SMALL}
    first, result = steal(box, streamed, **call)
    second, _ = steal(counting(victim), load(tmp_path, split="all"), **call)
    assert result.queries == len(box.seen) == 20
    assert torch.equal(first.head.weight, second.head.weight)
    entropy = EXTRACTIONS["activethief-entropy"](rounds=1)
    assert steal(victim, streamed, method=entropy, **call)[1].queries == 20
    for method in ("jbda", "dissector"):
        with pytest.raises(InvalidInput, match="not in memory"):
            steal(victim, streamed, method=method, **call)


def test_an_endpoint_that_fails_in_between(
    victim: nn.Module, pool: ImageData, inference_server: Any, failure: Any, tmp_path: Path
) -> None:
    def answer(images: Tensor) -> Tensor:
        asked.append(len(images))
        with torch.inference_mode():
            return victim.eval()(images)

    asked: list[int] = []
    server = inference_server(answer, logits=True, image_shape=(1, 16, 16))
    box = HttpBox(server.url, "model", batch_size=8, retries=0)
    call = {"budget": 24, "recipe": SHORT, "options": SMALL, "checkpoint": tmp_path}
    server.failures += [failure(503)]
    with pytest.raises(EndpointFailed, match="0 answers so far"):
        steal(box, pool, **call)
    stolen, result = steal(box, pool, **call)
    direct, _ = steal(victim, pool, **{**call, "checkpoint": None})
    assert (result.queries, sum(asked), result.victim["kind"]) == (24, 24, "http")
    assert torch.allclose(stolen.head.weight, direct.head.weight, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"budget": 0}, InvalidInput, "budget of 0"),
        ({"method": "knockof-random"}, UnknownName, "knockoff-random"),
        ({"answers": "loud"}, InvalidInput, "loud"),
        ({"substitute": "resnet9"}, UnknownName, "architecture"),
        ({"num_classes": 7}, InvalidInput, "victim has 10 classes"),
        ({"substitute": nn.Flatten()}, ModelUnsuitable, "256 outputs for 10"),
        ({"substitute": nn.Flatten(), "options": SMALL}, InvalidInput, "options"),
        ({"validation": load("digits")}, InvalidInput, "validation images are"),
        (
            {
                "validation": ImageData(
                    torch.zeros(3, 1, 16, 16, dtype=torch.uint8),
                    torch.zeros(3, dtype=torch.int64),
                    ("a", "b"),
                )
            },
            InvalidInput,
            "images has 2 classes: the victim has 10",
        ),
        ({"answers": None}, InvalidInput, "None"),
        ({"devise": "cpu"}, UnknownName, "Did you mean 'device'"),
        ({"source": None}, UnknownName, "option of a training"),
        ({"devices": 2}, InvalidInput, "one process"),
        ({"victim": "nothing.onnx"}, Exception, "nothing.onnx"),
        ({"victim": lambda images: torch.ones(len(images), 1)}, InvalidInput, "1 class"),
    ],
)
def test_calls_that_cannot_work(
    change: dict[str, Any], kind: type[Exception], words: str, victim: nn.Module, pool: ImageData
) -> None:
    call = {"victim": victim, "pool": pool, "budget": 20, "recipe": SHORT, "options": SMALL}
    if isinstance(change.get("substitute"), nn.Module):
        call["options"] = None
    with pytest.raises(kind, match=words):
        steal(**{**call, **change})


def test_a_method_with_its_own_parameters_is_named_or_not(
    victim: nn.Module, pool: ImageData
) -> None:
    class Own(KnockoffRandom):
        """Not registered."""

    for method, name in ((KnockoffRandom(), "knockoff-random"), (Own(), "Own")):
        _, result = steal(victim, pool, budget=10, method=method, recipe=SHORT, options=SMALL)
        assert result.method == name


def test_the_victim_is_asked_for_the_images_of_the_pool(
    victim: nn.Module, pool: ImageData, counting: Any
) -> None:
    box = counting(victim)
    steal(box, pool, budget=50, recipe=SHORT, options=SMALL)
    known = {image.numpy().tobytes() for image in pool.pixels()}
    assert set(box.seen) <= known


def test_registered_methods_say_where_they_come_from() -> None:
    for name in EXTRACTIONS:
        assert EXTRACTIONS.summary(name)
        assert EXTRACTIONS.facts(name)["paper"]
        method = EXTRACTIONS[name]()
        assert type(method).from_dict(method.to_dict()) == method


def test_defaults_scale_with_the_budget() -> None:
    assert default_recipe(100, 16).steps(100) >= 900
    assert default_recipe(60_000, 32).epochs == 30
    assert default_recipe(500, 32, architecture="vit-tiny").optimizer == "adamw"
    assert not default_recipe(500, 32).augment.flip


KILLED = """
import os, signal, sys
import signal
import subprocess
import sys
from pathlib import Path
from doorward.extraction import procedural_pool, steal
from doorward.models import ModuleBox, create
from doorward.training import Recipe

class Box(ModuleBox):
    batch_size = 8
    def probabilities(self, images):
        log = Path(sys.argv[1], "asked")
        if log.exists() and log.stat().st_size == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        answers = super().probabilities(images)
        with open(log, "ab") as stream:
            stream.write(b"." * len(images))
        return answers

box = Box(create("resnet8", classes=10, input_shape=(1, 16, 16), width=4), batch_size=8)
steal(box, procedural_pool(60, (1, 16, 16)), budget=48, options={"width": 4}, substitute="resnet8",
      recipe=Recipe(epochs=1, batch_size=16), checkpoint=Path(sys.argv[1], "theft"))
"""


@pytest.mark.slow
def test_a_theft_survives_a_real_kill(tmp_path: Path) -> None:
    for kill_at, code in ((16, -signal.SIGKILL), (40, -signal.SIGKILL), (0, 0)):
        call = [sys.executable, "-c", KILLED, str(tmp_path), str(kill_at)]
        assert subprocess.run(call, check=False).returncode == code
    assert (tmp_path / "asked").stat().st_size == 48
