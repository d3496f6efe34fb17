"""Dynamic batching: who shares an inference, who waits, and who pays for whose mistakes."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from doorward.errors import ModelUnsuitable
from doorward.serving.gateway.batching import Batcher
from doorward.serving.gateway.refusals import Refusal


class Doubling:
    """Answers twice the first pixel; images that begin with 13 cannot be answered."""

    def __init__(self, seconds=0.0):
        self.seconds, self.batches = seconds, []

    def __call__(self, images):
        import time

        time.sleep(self.seconds)
        self.batches.append(len(images))
        if (images[:, 0, 0, 0] == 13).any():
            raise ModelUnsuitable("unlucky")
        return images[:, 0, 0, :] * 2


def image(*values, width=1):
    return np.array(values, np.float32).reshape(-1, 1, 1, 1).repeat(width, 3)


def play(scenario, **options):
    async def run():
        async with Batcher(**options) as batcher:
            return await scenario(batcher)

    return asyncio.run(run())


def test_simultaneous_requests_share_an_inference_and_get_their_own_answers():
    graph = Doubling()

    async def scenario(batcher):
        parts = [image(1), image(2, 3), image(4)]
        answers = await asyncio.gather(*(batcher.run(graph, part) for part in parts))
        assert [answer.ravel().tolist() for answer in answers] == [[2], [4, 6], [8]]

    play(scenario, max_batch=8, max_delay=0.05)
    assert graph.batches == [4]


def test_batches_are_bounded_and_large_requests_cut():
    graph = Doubling()

    async def scenario(batcher):
        answer = await batcher.run(graph, image(*range(10)))
        assert answer.ravel().tolist() == [2 * value for value in range(10)]

    play(scenario, max_batch=4, max_delay=0)
    assert graph.batches == [4, 4, 2]


def test_load_fills_batches_without_any_delay():
    graph = Doubling(seconds=0.02)

    async def scenario(batcher):
        await asyncio.gather(*(batcher.run(graph, image(value)) for value in range(20, 53)))

    play(scenario, max_batch=16, max_delay=0)
    assert sum(graph.batches) == 33
    assert len(graph.batches) <= 5


def test_a_lone_request_waits_no_longer_than_the_delay():
    async def scenario(batcher):
        start = asyncio.get_running_loop().time()
        await batcher.run(Doubling(), image(1))
        assert asyncio.get_running_loop().time() - start >= 0.03

    play(scenario, max_batch=64, max_delay=0.03)


def test_graphs_and_sizes_never_mix():
    first, second = Doubling(), Doubling()

    async def scenario(batcher):
        answers = await asyncio.gather(
            batcher.run(first, image(1)),
            batcher.run(second, image(2)),
            batcher.run(first, image(3, width=2)),
            batcher.run(first, image(4)),
        )
        assert [answer.ravel().tolist() for answer in answers] == [[2], [4], [6, 6], [8]]

    play(scenario, max_delay=0.02)
    assert sorted(first.batches) == [1, 2]
    assert second.batches == [1]


def test_one_bad_request_does_not_cost_the_others_their_answers():
    async def scenario(batcher):
        graph = Doubling()
        answers = await asyncio.gather(
            *(batcher.run(graph, image(value)) for value in (1, 13, 2)), return_exceptions=True
        )
        assert answers[0].item() == 2
        assert isinstance(answers[1], ModelUnsuitable)
        assert answers[2].item() == 4

    play(scenario, max_delay=0.02)


def test_too_much_is_refused_and_who_left_is_forgotten():
    graph = Doubling(seconds=0.05)

    async def scenario(batcher):
        running = asyncio.create_task(batcher.run(graph, image(0)))
        await asyncio.sleep(0.02)
        left = asyncio.create_task(batcher.run(graph, image(1, 2)))
        stays = asyncio.create_task(batcher.run(graph, image(3, 4)))
        await asyncio.sleep(0)
        with pytest.raises(Refusal) as refused:
            await batcher.run(graph, image(5))
        assert (refused.value.status, refused.value.headers) == (503, {"Retry-After": "1"})
        left.cancel()
        assert (await stays).ravel().tolist() == [6, 8]
        await running
        assert batcher.waiting == 0

    play(scenario, max_batch=2, max_waiting=4, max_delay=0)
    assert graph.batches == [1, 2]


def test_closing_answers_what_waits_and_refuses_what_comes():
    graph = Doubling(seconds=0.01)

    async def scenario():
        batcher = Batcher(max_batch=1, max_delay=9)
        async with batcher:
            waiting = [asyncio.create_task(batcher.run(graph, image(v))) for v in range(4)]
            await asyncio.sleep(0)
        assert [(await task).item() for task in waiting] == [0, 2, 4, 6]
        with pytest.raises(Refusal, match="shutting down"):
            await batcher.run(graph, image(1))

    asyncio.run(scenario())
