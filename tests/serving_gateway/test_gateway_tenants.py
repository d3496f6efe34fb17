"""Tenants: keys, budgets, modes of answers, stages, groups; what each of them gets to see."""

from __future__ import annotations

import asyncio
import json
import stat

import numpy as np
import pytest
import torch
from tests.serving_gateway.gateways import CLASSES, SECRET, labels, pictures, scores, write_linear

from doorward.errors import BadFile, InvalidInput, MissingData, UnknownName
from doorward.honeypot.defences import DEFENCES
from doorward.randomness import Secret
from doorward.serving.gateway import (
    POLICIES,
    Graphs,
    Settings,
    Tenant,
    TenantBook,
    add_tenant,
    read_secret,
    revoke_tenant,
)


def expect(graph, count=6):
    return graph(pictures(count))


def test_modes_of_answers(house, graphs):
    for name in ("soft", "top-2", "rounded-1", "label"):
        house.add(name, answers=name)
    whole, images = expect(graphs.clean), pictures(6)

    async def scenario(ask, gateway):
        np.testing.assert_allclose(scores(await ask(images, "soft")), whole, atol=1e-6)
        top = scores(await ask(images, "top-2"))
        assert ((top > 0).sum(1) <= 2).all()
        np.testing.assert_allclose(top.max(1), whole.max(1), atol=1e-6)
        np.testing.assert_allclose(scores(await ask(images, "rounded-1")), whole.round(1), atol=0.1)
        hard = await ask(images, "label")
        assert [item["name"] for item in hard.json()["outputs"]] == ["labels"]
        assert labels(hard) == whole.argmax(1).tolist()
        refused = await ask(images, "label", outputs=[{"name": "probabilities"}])
        assert refused.status_code == 400

    house.run(scenario)


def test_stages_change_the_answer_and_nothing_else_that_a_client_sees(house, graphs):
    for stage in (0, 1, 2, 9):
        house.add(f"at-{stage}", stage=stage)
    images = pictures(6)

    async def scenario(ask, gateway):
        clean, honeypot, hard, beyond = [await ask(images, f"at-{n}") for n in (0, 1, 2, 9)]
        np.testing.assert_allclose(scores(clean), expect(graphs.clean), atol=1e-6)
        np.testing.assert_allclose(scores(honeypot), expect(graphs.honeypots[0]), atol=1e-6)
        assert set(scores(hard).ravel()) == {0.0, 1.0}
        assert labels(hard) == labels(honeypot)
        assert (scores(beyond) == scores(hard)).all()  # the ladder has three stages
        shapes = [
            [(item["name"], item["shape"], item["datatype"]) for item in answer.json()["outputs"]]
            for answer in (clean, honeypot, hard)
        ]
        assert shapes[0] == shapes[1] == shapes[2]
        versions = {answer.json()["model_version"] for answer in (clean, honeypot, hard)}
        assert versions == {gateway.graphs.version}
        assert len({tuple(sorted(answer.headers)) for answer in (clean, honeypot, hard)}) == 1
        for name in ("at-0", "at-2"):
            for _ in range(3):
                assert (scores(await ask(images, name)) == scores(await ask(images, name))).all()

    house.run(scenario)


def test_the_head_is_chosen_by_the_secret_and_never_at_random():
    chosen = {
        account: POLICIES["honeypot"].head(account, 4, SECRET)
        for account in (f"tenant-{number}" for number in range(200))
    }
    assert chosen == {name: POLICIES["honeypot"].head(name, 4, SECRET) for name in chosen}
    assert all(30 <= list(chosen.values()).count(head) <= 70 for head in range(4))
    other = Secret(bytes(32))
    assert chosen != {name: POLICIES["label-only"].head(name, 4, other) for name in chosen}
    assert POLICIES["honeypot"].head("ada", 0, SECRET) is None
    assert POLICIES["clean"].head("ada", 4, SECRET) is None


def test_budgets(house):
    house.add("ada", budget=10)
    house.add("bob", budget=10, group="sybils")
    house.add("eve", budget=10, group="sybils")

    async def scenario(ask, gateway):
        assert (await ask(pictures(8), "ada")).status_code == 200
        spent = await ask(pictures(3), "ada")
        assert (spent.status_code, "budget" in spent.json()["error"]) == (429, True)
        assert "retry-after" not in spent.headers
        assert (await ask(pictures(2), "ada")).status_code == 200
        together = await asyncio.gather(*(ask(pictures(3, n), "bob") for n in range(5)))
        assert sorted(answer.status_code for answer in together) == [200, 200, 200, 429, 429]
        assert (await ask(pictures(2), "eve")).status_code == 429  # bob spent it
        refused = await ask({"inputs": []}, "eve")
        assert refused.status_code == 400  # and costs nothing
        assert gateway.log.accounts()["group:sybils"].used == 9
        assert gateway.log.check().rows == 5

    house.run(scenario)


def test_budgets_outlive_the_process_and_hold_across_gateways(house):
    house.add("ada", budget=10)

    async def spend(ask, gateway):
        assert (await ask(pictures(6), "ada")).status_code == 200

    house.run(spend)
    first, second = house.gateway(), house.gateway()

    async def scenario(ask, gateway):
        tenant = second.tenant(house.keys["ada"])
        async with second:
            async with second.accounts.charging(tenant, 3):  # it has seen 6 of 10 used
                assert (await ask(pictures(3), "ada")).status_code == 200
            from tests.serving_gateway.gateways import asking

            from doorward.serving.gateway.protocol import read_request
            from doorward.serving.gateway.refusals import Refusal

            body = json.dumps(asking(pictures(3))).encode()
            with pytest.raises(Refusal) as refused:
                await second.infer(tenant, read_request(body))
            assert refused.value.status == 429
        assert gateway.log.check().rows == 2

    house.run(scenario, first)


def test_metrics_of_tenants_are_for_operators(house):
    house.add("ada", stage=1)
    house.add("watcher", operator=True)

    async def scenario(ask, gateway):
        await ask(pictures(2), "ada")
        for who, shown in ((None, False), ("ada", False), ("watcher", True)):
            headers = {"Authorization": f"Bearer {house.keys[who]}"} if who else {}
            text = (await ask.client.get("/metrics", headers=headers)).text
            assert "doorward_gateway_images_total 2.0" in text
            assert ("ada" in text) == shown
            assert ("honeypot" in text) == shown

    house.run(scenario)


def test_the_file_of_tenants(tmp_path):
    path = tmp_path / "tenants.json"
    key = add_tenant(path, "ada")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert key not in path.read_text()
    with pytest.raises(InvalidInput, match="there is a tenant called 'ada'"):
        add_tenant(path, "ada")
    assert TenantBook.load(path).find(key).name == "ada"
    revoke_tenant(path, "ada")
    assert TenantBook.load(path).find(key) is None
    again = add_tenant(path, "ada")
    assert again != key
    book = TenantBook.load(path)
    assert (book.find(key), book.find(again).name) == (None, "ada")
    for guess in (None, "", "dw_", again[:-1], "\ud800"):
        assert book.find(guess) is None
    with pytest.raises(UnknownName):
        revoke_tenant(path, "bob")
    with pytest.raises(MissingData):
        TenantBook.load(tmp_path / "none.json")
    for fields in ({"budget": -1}, {"answers": "all"}, {"stage": -1}, {"group": "/"}):
        with pytest.raises(InvalidInput):
            add_tenant(path, "new", **fields)
    with pytest.raises(InvalidInput):
        add_tenant(path, "no name")
    twin = Tenant(name="twin", key="0" * 64)
    with pytest.raises(InvalidInput):
        TenantBook([twin, twin])


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"format": "doorward-tenants-1"}', '{"format": 1, "tenants": []}',
     '{"format": "doorward-tenants-1", "tenants": [3]}',
     '{"format": "doorward-tenants-1", "tenants": [{"name": "a"}]}'],
)  # fmt: skip
def test_files_that_hold_no_tenants(tmp_path, content):
    path = tmp_path / "tenants.json"
    path.write_text(content)
    with pytest.raises(BadFile):
        TenantBook.load(path)


def test_secrets(tmp_path):
    path = tmp_path / "gateway.secret"
    with pytest.raises(MissingData):
        read_secret(path)
    made = read_secret(path, make=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_secret(path, make=True) == made
    path.chmod(0o644)
    with pytest.raises(BadFile, match="chmod 600"):
        read_secret(path)
    path.chmod(0o600)
    for content in (b"", b"ab", b"z" * 64, b"\xff"):
        path.write_bytes(content)
        with pytest.raises(BadFile):
            read_secret(path)


def test_gateways_that_cannot_work(house, graphs, files, tmp_path):
    with pytest.raises(UnknownName, match="answer policy"):
        house.gateway(settings=Settings(ladder=("clean", "honeypt")))
    wide = write_linear(tmp_path / "wide.onnx", side=4)
    with pytest.raises(InvalidInput, match="same model"):
        Graphs.load(files.clean, [wide])
    with pytest.raises(MissingData):
        Graphs.load(tmp_path / "none.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"\x08\x01 no model")
    with pytest.raises(BadFile):
        Graphs.load(tmp_path / "bad.onnx")
    assert graphs.clean.signature() == ((1, 8, 8), CLASSES)


@pytest.mark.parametrize("name", [n for n in DEFENCES if DEFENCES.facts(n)["gateway"]])
def test_a_defence_is_a_policy_with_a_secret_for_each_account(name):
    policy, images = POLICIES[name], pictures(40)
    answers = np.random.default_rng(0).dirichlet(np.ones(4), 40).astype(np.float32)
    assert policy.head("ada", 3, SECRET) is None
    told = policy.answer(answers, images, "ada", SECRET)
    assert (told.shape, told.dtype) == (answers.shape, answers.dtype)
    wanted = DEFENCES[name]().answer(
        torch.from_numpy(answers), torch.from_numpy(images), SECRET.derive("defence ada")
    )
    assert (told == wanted.numpy()).all()
    with pytest.raises(InvalidInput, match="no images"):
        policy.answer(answers, None, "ada", SECRET)
