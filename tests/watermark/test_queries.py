"""Query plans: what is asked, in which order, and who can tell afterwards."""

import hashlib
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from doorward.bundles.merkle import commit
from doorward.data import ImageData, load
from doorward.errors import InvalidInput
from doorward.randomness import Secret
from doorward.watermark import WatermarkKey
from doorward.watermark.opened import open_triggers
from doorward.watermark.verifying import GUARDED, Queries, QueryPlan, Shown
from doorward.watermark.verifying.queries import trigger_commitments

SHAPE = (1, 8, 8)
SEED = Secret(b"s" * 32)


@pytest.fixture(scope="module")
def shown():
    return Shown.by(WatermarkKey.new(n=20, image_shape=SHAPE))


@pytest.fixture(scope="module")
def digits():
    return load("digits").sample(60, seed=0).resized(8)


def test_a_plan_by_hand():
    plan = QueryPlan(cover_share=0.75, repeat_share=0.5, jitter_share=0.25)
    assert plan.covers(20) == 60
    assert plan.questions(20) == 20 + 60 + 30 + 5 + 15
    assert QueryPlan().questions(20) == 20
    assert GUARDED.questions(100) == 100 + 100 + 20 + 20 + 20


@pytest.mark.parametrize(
    "fields",
    [
        {"cover_share": 0.96}, {"cover_share": -0.1}, {"cover_share": float("nan")},
        {"repeat_share": 1.1}, {"jitter_share": -1}, {"jitter": 0}, {"jitter": 33},
        {"jitter": 1.0}, {"batch_size": 0}, {"batch_size": 5000}, {"per_second": 0},
        {"per_second": float("inf")}, {"order": "random"},
    ],
    ids=str,
)  # fmt: skip
def test_plans_out_of_range_are_refused(fields):
    with pytest.raises(InvalidInput):
        QueryPlan.from_dict(fields)


@settings(max_examples=30, deadline=None)
@given(
    cover_share=st.floats(0, 0.9),
    repeat_share=st.floats(0, 1),
    jitter_share=st.floats(0, 1),
    seed=st.binary(min_size=32, max_size=32),
)
def test_every_trigger_is_asked_once_and_everything_else_as_planned(
    shown, cover_share, repeat_share, jitter_share, seed
):
    plan = QueryPlan(cover_share=cover_share, repeat_share=repeat_share, jitter_share=jitter_share)
    queries = Queries(plan, shown, Secret(seed))
    kinds = Counter(queries.kinds)
    covers = plan.covers(20)
    assert len(queries) == plan.questions(20) == sum(kinds.values())
    assert sorted(queries.places("trigger")) == list(range(20))
    assert sorted(queries.places("cover")) == list(range(covers))
    assert kinds["repeat"] == round(repeat_share * covers)
    assert set(queries.places("jittered trigger")) <= set(range(20))
    assert set(queries.places("repeat")) <= set(range(covers))


def test_order_covers_and_hashes_follow_from_the_seed_alone(shown):
    one, same = (Queries(GUARDED, shown, SEED) for _ in range(2))
    other = Queries(GUARDED, shown, Secret(b"t" * 32))
    everywhere = range(len(one))
    assert one.kinds == same.kinds
    assert one.commitments() == same.commitments()
    assert torch.equal(one.images(everywhere), same.images(everywhere))
    assert one.kinds != other.kinds
    assert not set(one.commitments()) & set(other.commitments())
    assert one.seal == hashlib.sha256(b"doorward queries\0" + b"s" * 32).hexdigest()


def test_the_order_is_uniform():
    """Where trigger 0 of 3 stands, over 1,200 seeds: each of three places a third of the time."""
    shown = Shown.by(WatermarkKey.new(n=3, image_shape=SHAPE))
    places = Counter(
        Queries(QueryPlan(), shown, Secret(number.to_bytes(32, "big"))).places("trigger")[0]
        for number in range(1200)
    )
    assert sum((places[k] - 400) ** 2 / 400 for k in range(3)) < 18.4  # 99.99 %, 2 degrees


def test_images_by_kind(shown, digits):
    queries = Queries(GUARDED, shown, SEED, digits)
    images = queries.images(range(len(queries)))
    assert images.dtype == torch.uint8
    at = {kind: queries.places(kind) for kind in set(queries.kinds)}
    known = {image.numpy().tobytes() for image in digits.images}
    for number, place in at["trigger"].items():
        assert torch.equal(images[place], shown.images[number])
    for place in at["cover"].values():
        assert images[place].numpy().tobytes() in known
    assert len({images[place].numpy().tobytes() for place in at["cover"].values()}) == 20
    for number, place in at["repeat"].items():
        assert torch.equal(images[place], images[at["cover"][number]])
    for kind, plain in (("jittered trigger", "trigger"), ("jittered cover", "cover")):
        for number, place in at[kind].items():
            change = (images[place].int() - images[at[plain][number]].int()).abs()
            assert 1 <= int(change.max()) <= GUARDED.jitter


def test_look_alikes_are_fresh_pictures(shown):
    one, other = (Queries(GUARDED, shown, Secret(byte * 32)) for byte in (b"a", b"b"))
    pictures = [
        {one_.images([place])[0].numpy().tobytes() for place in one_.places("cover").values()}
        for one_ in (one, other)
    ]
    triggers = {image.numpy().tobytes() for image in shown.images}
    assert len(pictures[0] | pictures[1] | triggers) == 60


def test_a_trigger_is_found_by_its_secret_and_by_nothing_else(shown):
    queries = Queries(GUARDED, shown, SEED)
    hashes = queries.commitments()
    found = trigger_commitments(shown, queries.seal)
    assert [hashes.index(query) for query in found] == [
        place for _, place in sorted(queries.places("trigger").items())
    ]
    assert len(set(hashes)) == len(hashes)  # also of images that are asked about twice
    # Who knows image and seed, but not the secret, cannot tell the salt.
    image = shown.images[0].numpy().tobytes()
    guesses = {SEED.mac(f"salt of trigger {i}".encode()) for i in range(20)} | {SEED.reveal()}
    assert not {commit(salt, image).hex() for salt in guesses} & set(hashes)


def test_opened_triggers_are_found_too():
    key = WatermarkKey.new(n=20, image_shape=SHAPE)
    queries = Queries(GUARDED, Shown.by(key), SEED)
    some = Shown.opened(key.parameters, key.commitment(), open_triggers(key, [7, 3]))
    assert some.indices == (7, 3)
    hashes, places = queries.commitments(), queries.places("trigger")
    assert trigger_commitments(some, queries.seal) == (hashes[places[7]], hashes[places[3]])
    assert some.only((3,)).indices == (3,)
    assert torch.equal(some.only(range(20)).images, Shown.by(key).images[[3, 7]])


def test_covers_that_do_not_fit_are_refused(shown, digits):
    for covers, words in (
        (digits.resized(16), "shape"),
        (digits.with_channels(3), "shape"),
        (digits.sample(10, seed=0), "asks for 20 covers"),
    ):
        with pytest.raises(InvalidInput, match=words):
            Queries(GUARDED, shown, SEED, covers)


def test_covers_larger_than_memory_are_refused(shown):
    class Endless:
        images = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)

        def __len__(self):
            return 2**26

    many = Shown(shown.parameters, tuple(range(2**20)), shown.secrets, Endless.images, shown.labels)
    with pytest.raises(InvalidInput, match="larger than 1024 MiB"):
        Queries(QueryPlan(cover_share=0.95), many, SEED)


def test_covers_may_come_in_any_source(shown):
    """Only what an `ImageSource` promises is used."""
    images = (torch.arange(30 * 64) % 251).to(torch.uint8).reshape(30, 1, 8, 8)
    data = ImageData(images, torch.zeros(30, dtype=torch.int64), ("thing",))

    class Streamed:
        name, image_shape = "streamed", (1, 8, 8)
        fetch = staticmethod(data.fetch)

        def __len__(self):
            return len(data)

    one, other = (Queries(GUARDED, shown, SEED, source) for source in (data, Streamed()))
    assert one.commitments() == other.commitments()
