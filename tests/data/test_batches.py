"""Batches: every image once, exact to resume, exact to share, and cheap."""

import time

import pytest
import torch

from doorward.data import Augment, Batches, ImageData, load
from doorward.errors import InvalidInput

ALL = Augment(pad_crop=2, flip=True, cutout=4, rotate=5.0)


def source(count=23, side=8):
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=random)
    return ImageData(images, torch.arange(count) % 4, tuple("abcd"))


def test_every_image_once_and_steps_counted_over_epochs():
    data, batches = source(), Batches(source(), 5)
    assert len(batches) == 5
    for epoch in (0, 3):
        seen = list(batches.epoch(epoch))
        assert [batch.step for batch in seen] == [epoch * 5 + step for step in range(5)]
        assert {batch.epoch for batch in seen} == {epoch}
        assert (
            [len(batch) for batch in seen] == [batch.size_global for batch in seen] == [5] * 4 + [3]
        )
        indices = torch.cat([batch.indices for batch in seen])
        assert sorted(indices.tolist()) == list(range(23))
        assert torch.equal(torch.cat([batch.labels for batch in seen]), data.labels[indices])
        assert torch.equal(torch.cat([batch.images for batch in seen]), data.pixels(indices))


def test_order_depends_on_seed_and_epoch():
    orders = {tuple(Batches(source(), 5, seed=s).order(e).tolist()) for s in (0, 1) for e in (0, 1)}
    assert len(orders) == 4
    assert Batches(source(), 5, shuffle=False).order(7).tolist() == list(range(23))


@pytest.mark.parametrize("start", [0, 1, 4, 5])
def test_resume_in_the_middle_is_exact(start):
    batches = Batches(source(), 5, seed=3, augment=ALL)
    rest = list(batches.epoch(2))[start:]
    resumed = list(Batches(source(), 5, seed=3, augment=ALL).epoch(2, start=start))
    assert len(rest) == len(resumed)
    for expected, got in zip(rest, resumed, strict=True):
        assert expected.step == got.step
        assert torch.equal(expected.images, got.images)


@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_share_the_batch_of_one(world_size):
    alone = list(Batches(source(), 5, augment=ALL).epoch(1))
    ranks = [
        list(Batches(source(), 5, augment=ALL, rank=rank, world_size=world_size).epoch(1))
        for rank in range(world_size)
    ]
    for whole, *shares in zip(alone, *ranks, strict=True):
        assert {share.size_global for share in shares} == {len(whole)}
        for rank, share in enumerate(shares):
            assert torch.equal(share.indices, whole.indices[rank::world_size])
            assert torch.allclose(share.images, whole.images[rank::world_size], atol=1e-6)


def test_drop_last():
    assert [len(batch) for batch in Batches(source(), 5, drop_last=True).epoch(0)] == [5] * 4


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"batch_size": 0}, "batch size 0"),
        ({"batch_size": 24, "drop_last": True}, "smaller batch size"),
        ({"batch_size": 11, "world_size": 2}, "cannot be shared"),
        ({"batch_size": 5, "rank": 2, "world_size": 2}, "rank 2 of 2"),
    ],
)
def test_refusals(options, says):
    with pytest.raises(InvalidInput, match=says):
        Batches(source(), **options)


@pytest.mark.parametrize(("number", "start"), [(-1, 0), (0, 6), (0, -1)])
def test_steps_that_do_not_exist(number, start):
    with pytest.raises(InvalidInput):
        next(Batches(source(), 5).epoch(number, start=start))


def test_any_source_with_a_fetch_will_do():
    class Wrapped:
        def __init__(self, inner):
            self.inner, self.labels = inner, inner.labels

        def __len__(self):
            return len(self.inner)

        def fetch(self, indices):
            return self.inner.fetch(indices)

    plain, wrapped = (next(Batches(data, 5).epoch(0)) for data in (source(), Wrapped(source())))
    assert torch.equal(plain.images, wrapped.images)


def test_global_random_state_is_left_alone():
    before = torch.get_rng_state()
    list(Batches(source(), 5, augment=ALL).epoch(0))
    assert torch.equal(before, torch.get_rng_state())


def test_digits_make_batches():
    batch = next(Batches(load("digits"), 64).epoch(0))
    assert batch.images.shape == (64, 1, 32, 32)
    assert batch.images.is_contiguous()


@pytest.mark.slow
def test_an_epoch_of_cifar_is_prepared_in_about_a_second():
    images = torch.randint(0, 256, (50_000, 3, 32, 32), dtype=torch.uint8)
    data = ImageData(images, torch.arange(50_000) % 10, tuple("0123456789"))
    batches = Batches(data, 256, augment=Augment(pad_crop=4, flip=True))
    fastest = float("inf")
    for epoch in range(3):
        start = time.perf_counter()
        for _ in batches.epoch(epoch):
            pass
        fastest = min(fastest, time.perf_counter() - start)
    assert fastest < 1.0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_gives_what_the_cpu_gives():
    exact = Augment(pad_crop=2, flip=True, cutout=4)
    for cpu, gpu in zip(
        Batches(source(), 5, augment=exact).epoch(1),
        Batches(source(), 5, augment=exact, device="cuda").epoch(1),
        strict=True,
    ):
        assert gpu.images.is_cuda
        assert gpu.labels.is_cuda
        assert gpu.indices.is_cuda
        assert torch.equal(cpu.images, gpu.images.cpu())
        assert torch.equal(cpu.indices, gpu.indices.cpu())


def test_a_set_too_large_for_the_gpu_stays_where_it_is(monkeypatch):
    source, asked = load("digits", split="test"), []
    monkeypatch.setattr(ImageData, "to", lambda self, device: asked.append(device) or self)
    for free, moved in ((source.images.nbytes, 0), (3 * source.images.nbytes, 1)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _, free=free: (free, free))
        assert Batches(source, 64, device="cuda").source is source
        assert len(asked) == moved
