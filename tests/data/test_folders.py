"""Folders of images and arrays: read, streamed, split, and refused when they are not that."""

import numpy as np
import pytest
import torch
from PIL import Image

from doorward.data import Augment, Batches, StreamedImages, load, load_array, load_folder
from doorward.data.image_files import read_image
from doorward.errors import BadFile, InvalidInput, MissingData, UnknownName, UnsafeFile


def draw_folder(root, counts, side=8, mode="RGB", seed=0):
    random = np.random.default_rng(seed)
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            shape = (side, side + number % 2, 3) if mode == "RGB" else (side, side)
            pixels = random.integers(0, 256, shape, dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


@pytest.fixture
def photos(tmp_path):
    return draw_folder(tmp_path / "photos", {"cat": 6, "dog": 5, "emu": 7})


@pytest.mark.parametrize("channels", [None, 1, 3])
def test_classes_labels_and_pixels(photos, channels):
    (photos / ".hidden").mkdir()
    (photos / "cat" / "notes.txt").write_text("no image")
    data = load_folder(photos, size=8, channels=channels)
    assert (data.name, data.classes) == ("photos", ("cat", "dog", "emu"))
    assert data.counts().tolist() == [6, 5, 7]
    assert data.image_shape == (channels or 3, 8, 8)
    if channels != 1:  # the first image has the wanted size, so its pixels are its own
        expected = np.array(Image.open(photos / "cat" / "0.png")).transpose(2, 0, 1)
        assert np.array_equal(data.images[0].numpy(), expected)


def test_grey_files_give_one_channel(tmp_path):
    assert load_folder(draw_folder(tmp_path / "x", {"a": 2}, mode="L")).image_shape == (1, 8, 8)


@pytest.mark.parametrize("stream", [False, True])
def test_sizes_that_differ_need_a_size(photos, stream):
    with pytest.raises(InvalidInput, match="size=32"):
        load_folder(photos, stream=stream).fetch(torch.arange(18))


@pytest.mark.parametrize("workers", [0, 2])
def test_streamed_batches_are_bitwise_those_in_memory(photos, workers):
    memory = load_folder(photos, size=12)
    stream = StreamedImages(
        load_folder(photos, size=12, stream=True).listing, size=12, workers=workers
    )
    before = torch.get_rng_state()
    recipe = Augment(pad_crop=2, flip=True, cutout=3, rotate=8.0)
    for epoch, start in ((0, 0), (1, 2)):
        pairs = zip(
            Batches(memory, 4, augment=recipe).epoch(epoch, start=start),
            Batches(stream, 4, augment=recipe).epoch(epoch, start=start),
            strict=True,
        )
        for expected, got in pairs:
            assert torch.equal(expected.images, got.images)
            assert torch.equal(expected.labels, got.labels)
            assert torch.equal(expected.indices, got.indices)
            assert expected.step == got.step
    assert torch.equal(before, torch.get_rng_state())


def test_a_streamed_set_is_chosen_from_like_one_in_memory(photos):
    memory, stream = load_folder(photos, size=8), load_folder(photos, size=8, stream=True)
    for here, there in zip(
        memory.split(0.7, 0.3, seed=1), stream.split(0.7, 0.3, seed=1), strict=True
    ):
        assert torch.equal(here.images, there.in_memory().images)
        assert torch.equal(here.labels, there.labels)
    assert len(stream.of_class("dog")) == 5
    assert stream.sample(4, seed=0).counts().sum() == 4


@pytest.mark.parametrize("indices", [[], [999], [-1], [0.5], torch.ones(3, dtype=torch.bool)])
def test_a_streamed_subset_refuses_what_one_in_memory_refuses(photos, indices):
    source = load_folder(photos, size=8, stream=True)
    for one in (source, source.in_memory()):
        with pytest.raises(InvalidInput):
            one.subset(indices)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_in_a_worker_arrives_whole(photos, workers):
    source = StreamedImages(
        load_folder(photos, size=8, stream=True).listing, size=8, workers=workers
    )
    (photos / "dog" / "3.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(BadFile, match=r"dog/3\.png is damaged") as caught:
        list(Batches(source, 4).epoch(0))
    assert caught.value.remedy


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "deep", "bytes"])
def test_damaged_images_are_named(photos, damage):
    path = photos / "emu" / "2.png"
    whole = path.read_bytes()
    if damage == "deep":
        Image.fromarray(np.full((8, 8), 40_000, dtype=np.uint16)).save(path)
    else:
        cut = {"truncated": whole[: len(whole) // 2], "empty": b"", "text": b"hello"}
        path.write_bytes(cut.get(damage, whole[:30] + b"\xff" * 20 + whole[50:]))
    with pytest.raises(BadFile, match=r"emu/2\.png"):
        load_folder(photos, size=8)


@pytest.mark.filterwarnings("ignore:Image size:PIL.Image.DecompressionBombWarning")
def test_fuzzed_images_end_in_our_errors(photos, tmp_path):
    random = np.random.default_rng(0)
    for end in ("png", "ppm", "jpg", "bmp"):
        path = tmp_path / f"fuzzed.{end}"
        Image.open(photos / "cat" / "0.png").save(path)
        whole = path.read_bytes()
        for _ in range(60):
            fuzzed = np.frombuffer(whole, np.uint8).copy()
            fuzzed[random.integers(0, min(len(fuzzed), 64), 3)] = random.integers(0, 256, 3)
            path.write_bytes(fuzzed.tobytes())
            try:
                image = read_image(path, (8, 8), 3)
            except BadFile:
                continue
            assert image.shape == (3, 8, 8)


def test_a_flat_folder_is_cut_the_same_way_every_time(photos):
    train, test, everything = (load(photos, split=s, size=8) for s in ("train", "test", "all"))
    assert (len(train), len(test), len(everything)) == (14, 4, 18)
    assert torch.equal(train.images, load(str(photos), size=8).images)
    rows = {tuple(image.flatten().tolist()) for image in torch.cat([train.images, test.images])}
    assert len(rows) == 18


def test_split_folders_share_one_numbering(tmp_path):
    draw_folder(tmp_path / "set" / "train", {"a": 2, "b": 3})
    draw_folder(tmp_path / "set" / "val", {"b": 1, "c": 2}, seed=1)
    train, test = load(tmp_path / "set", size=8), load("set", root=tmp_path, split="test", size=8)
    assert train.classes == test.classes == ("a", "b", "c")
    assert train.labels.tolist() == [0, 0, 1, 1, 1]
    assert test.labels.tolist() == [1, 2, 2]
    assert len(load(tmp_path / "set", split="all", size=8)) == 8
    with pytest.raises(UnknownName, match="Known: all, test, train"):
        load(tmp_path / "set", split="dev")


def test_classes_called_train_and_test_are_classes(tmp_path):
    draw_folder(tmp_path / "transport", {"test": 3, "train": 3})
    assert load(tmp_path / "transport", split="all", size=8).classes == ("test", "train")


def test_a_missing_split_folder_is_said(tmp_path):
    draw_folder(tmp_path / "set" / "train", {"a": 2, "b": 3})
    with pytest.raises(MissingData, match="no folder test"):
        load(tmp_path / "set", split="test", size=8)


def test_folders_without_images(tmp_path):
    (tmp_path / "empty" / "class").mkdir(parents=True)
    with pytest.raises(MissingData, match="CLASS/IMAGE"):
        load_folder(tmp_path / "empty")
    with pytest.raises(MissingData, match="no folder"):
        load_folder(tmp_path / "absent")


@pytest.mark.parametrize(
    "options", [{"workers": -1}, {"prefetch": 0}, {"size": 0}, {"channels": 2}]
)
def test_impossible_options_of_a_stream(photos, options):
    with pytest.raises(InvalidInput):
        StreamedImages(load_folder(photos, size=8, stream=True).listing, **options)


def test_arrays_of_unlabelled_images(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3), dtype=np.uint8)
    (tmp_path / "pool").mkdir()
    np.save(tmp_path / "pool" / "images.npy", array)
    for given in (tmp_path / "pool", tmp_path / "pool" / "images.npy"):
        pool = load(given)
        assert (pool.name, pool.classes, pool.labels.tolist()) == ("pool", ("unlabelled",), [0] * 5)
        assert np.array_equal(pool.images.numpy(), array.transpose(0, 3, 1, 2))
        assert pool.images.is_contiguous()
    np.save(tmp_path / "grey.npy", array[..., 0])
    assert load_array(tmp_path / "grey.npy").image_shape == (1, 4, 6)
    with pytest.raises(InvalidInput, match="no test split"):
        load(tmp_path / "pool", split="test")


def test_arrays_that_are_something_else(tmp_path):
    path = tmp_path / "pool.npy"
    np.save(path, np.zeros((5, 4, 6, 3), dtype=np.uint8))
    whole = path.read_bytes()
    for content in (b"", whole[:40], whole[:-1], b"text" * 20):
        path.write_bytes(content)
        with pytest.raises(BadFile, match=r"pool\.npy"):
            load_array(path)
    for array in (np.zeros((5, 4, 6, 3)), np.zeros(5, np.uint8), np.zeros((0, 4, 4, 3), np.uint8)):
        np.save(path, array)
        with pytest.raises(BadFile):
            load_array(path)
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(UnsafeFile, match="pickled"):
        load_array(path)
    with pytest.raises(MissingData):
        load_array(tmp_path / "absent.npy")
