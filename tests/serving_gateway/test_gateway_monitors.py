"""Monitors: synthetic walks are noticed, nature is not; tenants move up, and why is written."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tests.serving_gateway.gateways import CLASSES, SECRET, labels, pictures

from doorward.data import load, to_pixels
from doorward.errors import BadFile, InvalidInput
from doorward.serving.gateway import (
    Drift,
    Monitors,
    Prada,
    Reference,
    Settings,
    Share,
    reference_of,
)
from doorward.serving.gateway.monitors import PradaMonitor, Watch
from doorward.serving.gateway.monitors.averages import DriftMonitor, ShareMonitor


@pytest.fixture(scope="module")
def digits():
    """Digits of 32x32 pixels in a random order, and one-hot answers to them."""
    source = load("digits")
    order = np.random.default_rng(0).permutation(len(source))
    pixels = to_pixels(source.fetch(__import__("torch").arange(len(source)))[0]).numpy()[order]
    return pixels, np.eye(10, dtype=np.float32)[source.labels.numpy()[order]]


def walk(images, answers, rounds, step):
    """Papernot's augmentation as a stream: every round steps away from all images so far."""
    stream, labels_ = [images], [answers]
    draw = np.random.default_rng(1)
    for _ in range(rounds):
        known = np.concatenate(stream)
        signs = np.sign(draw.standard_normal(known.shape)).astype(np.float32)
        stream.append(np.clip(known + step * signs, 0, 1))
        labels_.append(np.concatenate(labels_))
    return np.concatenate(stream), np.concatenate(labels_)


def readings(monitor, images, answers, lot=20):
    found = [
        monitor.observe(images[start : start + lot], answers[start : start + lot])
        for start in range(0, len(images), lot)
    ]
    return [reading for reading in found if reading is not None]


@pytest.mark.parametrize("seed", range(3))
def test_prada_notices_a_walk_and_not_nature(digits, seed):
    pixels, answers = digits
    start = 400 * seed
    natural = readings(
        PradaMonitor(Prada()), pixels[start : start + 600], answers[start : start + 600]
    )
    assert len(natural) >= 20
    assert not any(reading.alarm for reading in natural)
    assert min(reading.statistic for reading in natural) > 0.95
    for step, delta in ((0.02, 0.9), (0.1, 0.95)):  # wide steps need the stricter threshold
        images, told = walk(pixels[start : start + 50], answers[start : start + 50], 3, step)
        synthetic = readings(PradaMonitor(Prada(delta=delta)), images, told)
        first = next(reading for reading in synthetic if reading.alarm)
        assert first.queries <= 260
        assert first.statistic < first.threshold == delta


def test_prada_by_hand():
    """Points on a line, one class: the growing set keeps those beyond its threshold."""
    monitor = PradaMonitor(Prada(least=20))
    points = np.array([0.0, 0.5, 1.25, 0.52], np.float32).reshape(4, 1, 1, 1)
    one = np.ones((4, 1), np.float32)
    assert monitor.observe(points, one) is None
    growing = monitor._classes[0]
    assert [round(distance, 4) for _, distance in monitor._distances] == [0.5, 0.75, 0.02]
    assert growing.kept.ravel().tolist() == [0.0, 0.5, 1.25]
    assert growing.threshold == pytest.approx(0.5)
    again = PradaMonitor(Prada(least=20))
    for row in range(4):  # one by one is the same
        again.observe(points[row : row + 1], one[:1])
    assert list(again._distances) == list(monitor._distances)


def test_prada_keeps_to_its_memory_and_projects_secretly():
    monitor = PradaMonitor(Prada(capacity=30, dimensions=16), seed=1)
    other = PradaMonitor(Prada(capacity=30, dimensions=16), seed=2)
    far = (np.arange(200, dtype=np.float32) ** 2).reshape(200, 1, 1, 1)
    images, one = pictures(200) + far, np.ones((200, 1), np.float32)
    first, second = (each.observe(images, one) for each in (monitor, other))
    assert len(monitor._classes[0].kept) == 30
    assert monitor._classes[0].kept.shape[1] == 16
    assert first.statistic != second.statistic
    images = pictures(200)
    flat = images.reshape(200, -1)
    true = np.linalg.norm(flat[1:] - flat[:-1], axis=1)
    wide = PradaMonitor(Prada(dimensions=63), seed=1)._project(images)
    seen = np.linalg.norm(wide[1:] - wide[:-1], axis=1)
    assert abs((seen / true).mean() - 1) < 0.05


def test_equal_distances_are_an_alarm_and_no_warning():
    images = np.eye(60, dtype=np.float32).reshape(60, 1, 6, 10)
    reading = PradaMonitor(Prada(least=20)).observe(images, np.ones((60, 1), np.float32))
    assert (reading.statistic, reading.alarm) == (0.0, True)


FLAT = Reference(images=9, shares=(0.25,) * 4, means=(0.5,) * 5, deviations=(0.1,) * 5)


def test_shares_by_hand():
    monitor = ShareMonitor(Share(least=10, window=10, rise=0.3), FLAT)
    images, certain = pictures(10), np.eye(4, dtype=np.float32)
    assert monitor.observe(images[:9], certain[np.arange(9) % 4]) is None
    reading = monitor.observe(images[:1], certain[[1]])  # 0 1 2 3 0 1 2 3 0 1
    assert (round(reading.statistic, 6), reading.alarm) == (0.05, False)
    reading = monitor.observe(images[:6], certain[[2] * 6])  # 2 3 0 1 2 2 2 2 2 2
    assert (round(reading.statistic, 6), reading.alarm) == (0.45, True)
    assert reading.detail == "class 2: 70.0 %, reference 25.0 %"


def test_drift_is_seen_in_images_and_in_certainty(digits):
    pixels, answers = digits
    reference = Reference.measured(pixels[:900], answers[:900])
    for images, told, feature in [
        (pixels[900:1400], answers[900:1400], None),
        (np.random.default_rng(0).random((600, 1, 8, 8), dtype=np.float32), answers[:600], True),
        (pixels[900:1400], np.full((500, 10), 0.1, np.float32), True),
    ]:
        alarms = [r for r in readings(DriftMonitor(Drift(), reference), images, told) if r.alarm]
        assert bool(alarms) == bool(feature)


def test_what_was_asked_before_tells_nothing_new():
    watch = Watch(Monitors(prada=Prada(least=20, every=1)), secret=SECRET)
    images, told = pictures(60), np.ones((60, 1), np.float32)
    names = [bytes([row]) for row in range(60)]
    first = watch.observe(images, told, names)
    assert watch.observe(images, told, names) == []
    assert watch.observe(images[:2], told[:2], [b"new", names[0]])[0].queries == 61
    assert first[0].queries == 60


def test_a_walk_moves_a_tenant_up_and_nature_does_not(house_of, tmp_path):
    house = house_of(monitors=Monitors(prada=Prada(least=40)))
    house.add("honest")
    house.add("thief")
    still = pictures(400, seed=3)
    walking, _ = walk(pictures(20, seed=4), np.zeros((20, 1)), 4, 0.02)

    async def scenario(ask, gateway):
        seen = []
        for start in range(0, 300, 20):
            await ask(still[start : start + 20], "honest")
            answer = await ask(walking[start : start + 20], "thief")
            seen.append(gateway.log.account("thief").stage)
            assert answer.status_code == 200
        assert gateway.log.account("honest").stage == 0
        assert seen == sorted(seen)
        assert seen[-1] >= 1
        assert seen[0] == 0
        asked = still[380:]
        plain, caught = await ask(asked, "honest"), await ask(asked, "thief")
        graphs = gateway.graphs
        head = graphs.honeypots[0] if seen[-1] == 1 else None
        if head is not None:
            assert labels(caught) == head(asked).argmax(1).tolist()
        assert labels(plain) == graphs.clean(asked).argmax(1).tolist()
        moves = list(gateway.log.rows(kind="move"))
        facts = json.loads(moves[0].facts)
        assert (facts["from"], facts["to"], facts["monitor"]) == (0, 1, "prada")
        assert facts["statistic"] < facts["threshold"]
        assert {row.tenant for row in moves} == {"thief"}
        assert gateway.log.check().intact
        shown = gateway.metrics.render(operator=True).decode()
        assert 'doorward_gateway_alarms_total{account="thief",monitor="prada"}' in shown
        gateway.log.place("thief", 0, reason={"by": "operator"})
        await ask(asked[:1], "thief")  # after this answer the gateway knows
        assert labels(await ask(asked, "thief")) == graphs.clean(asked).argmax(1).tolist()

    house.run(scenario)


def test_labels_of_a_favoured_class_move_a_tenant(house_of, graphs):
    house = house_of(monitors=Monitors(prada=None, share=Share(least=20, rise=0.2)))
    house.add("collector")
    images = pictures(4000, seed=5)
    reference = reference_of(graphs.clean, images[:1000])
    told = graphs.clean(images).argmax(1)
    counts = np.bincount(told, minlength=CLASSES)
    rare = int(np.where(counts < 40, len(images), counts).argmin())
    favoured = images[told == rare][:40]

    async def scenario(ask, gateway):
        first = await ask(favoured[:10], "collector")
        assert first.status_code == 200, first.text
        assert gateway.log.account("collector").stage == 0
        await ask(favoured[10:40], "collector")
        assert gateway.log.account("collector").stage == 1

    house.run(scenario, house.gateway(reference=reference))


def test_a_ladder_of_one_stage_measures_and_moves_nobody(house_of):
    house = house_of(ladder=("clean",), monitors=Monitors(prada=Prada(least=20)))
    house.add("ada")
    walking, _ = walk(pictures(20, seed=4), np.zeros((20, 1)), 3, 0.02)

    async def scenario(ask, gateway):
        for start in range(0, 160, 40):
            assert (await ask(walking[start : start + 40], "ada")).status_code == 200
        shown = gateway.metrics.render(operator=True).decode()
        assert 'doorward_gateway_alarms_total{account="ada",monitor="prada"}' in shown
        assert list(gateway.log.rows(kind="move")) == []

    house.run(scenario)


def test_references_that_do_not_fit(house, graphs, tmp_path):
    with pytest.raises(InvalidInput, match="classes"):
        house.gateway(reference=Reference(images=1, shares=(1.0,), means=(0,) * 5,
                                          deviations=(1,) * 5))  # fmt: skip
    with pytest.raises(InvalidInput):
        reference_of(graphs.clean, pictures(0))
    for content in ("[]", "{}", '{"images": 0}', "nope"):
        (tmp_path / "reference.json").write_text(content)
        with pytest.raises(BadFile):
            Reference.load(tmp_path / "reference.json")
    assert len(reference_of(graphs.clean, pictures(5)).shares) == CLASSES
    for wrong in ({"delta": 0}, {"least": 1}, {"window": 9000}):
        with pytest.raises(InvalidInput):
            Settings.from_dict({"monitors": {"prada": wrong}})
