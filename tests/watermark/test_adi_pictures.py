"""The owner's own pictures: order of files, cutting, resizing, labels, what is wrong with them."""

import numpy as np
import pytest
import torch
from PIL import Image

from doorward.errors import BadFile, InvalidInput, MissingData
from doorward.watermark.adi import PaperKey, list_pictures, load_pictures
from doorward.watermark.adi.pictures import fit_picture, read_numbers

SHAPE = (3, 16, 16)


def picture(path, shade, size=(40, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (shade, 0, 255 - shade)).save(path)


@pytest.fixture
def folder(tmp_path):
    """Pictures 1 to 12; the shade is the number."""
    for number in range(1, 13):
        picture(tmp_path / "set" / f"{number}.png", number)
    return tmp_path / "set"


def test_files_are_sorted_as_text_like_image_folder(folder):
    """1, 10, 11, 12, 2, ...: the order that the authors' labels file follows."""
    names = [path.stem for path in list_pictures(folder)]
    assert names == ["1", "10", "11", "12", "2", "3", "4", "5", "6", "7", "8", "9"]
    shades = load_pictures(folder, SHAPE)[:, 0, 0, 0].tolist()
    assert shades == [1, 10, 11, 12, 2, 3, 4, 5, 6, 7, 8, 9]


def test_labels_follow_the_order_of_the_files(folder, tmp_path):
    """Line 2 of the labels is that of 10.png."""
    numbers = tmp_path / "labels.txt"
    numbers.write_text("".join(f"{i % 10:.18e}\n" for i in range(12)))
    key = PaperKey.new(image_shape=SHAPE, pictures=folder, labels=numbers)
    images, labels = key.triggers()
    by_shade = dict(zip(images[:, 0, 0, 0].tolist(), labels.tolist(), strict=True))
    assert (by_shade[1], by_shade[10], by_shade[2]) == (0, 1, 4)
    assert (key.n, key.law) == (12, "shuffled")


def test_the_layout_of_the_authors_repository(tmp_path):
    """trigger_set/pics/1.jpg beside labels-cifar.txt; folders in order, deep ones too."""
    for place in ("b/1.png", "a/9.png", "a/deep/1.png", "a/10.png"):
        picture(tmp_path / place, 5)
    (tmp_path / "labels-cifar.txt").write_text("1.0\n")
    found = [str(path.relative_to(tmp_path)) for path in list_pictures(tmp_path)]
    assert found == ["a/10.png", "a/9.png", "a/deep/1.png", "b/1.png"]


def test_pictures_here_and_below_are_ambiguous(folder):
    picture(folder / "more" / "1.png", 1)
    with pytest.raises(InvalidInput, match="folders with images"):
        list_pictures(folder)


@pytest.mark.parametrize("place", ["nowhere", "empty"])
def test_no_pictures(tmp_path, place):
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingData):
        list_pictures(tmp_path / place)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 16), (30, 41), (19, 21)])
def test_the_crop_is_the_centre_untouched(height, width):
    whole = torch.arange(height * width, dtype=torch.uint8).view(1, height, width)
    top, left = round((height - 16) / 2), round((width - 16) / 2)  # as torchvision rounds
    assert torch.equal(fit_picture(whole, (16, 16)), whole[:, top : top + 16, left : left + 16])


def test_resizing_shows_the_whole_centre(tmp_path):
    """A black and a white half stay halves; the crop of the same picture sees less of it."""
    array = np.zeros((60, 100, 3), dtype=np.uint8)
    array[:, 50:] = 255
    array[:, 30:70, 0] = 128
    Image.fromarray(array).save(tmp_path / "1.png")
    resized = load_pictures(tmp_path, SHAPE, fit="resize")[0]
    cropped = load_pictures(tmp_path, SHAPE, fit="crop")[0]
    assert resized.shape == cropped.shape == SHAPE
    assert resized[1, 8, 0] == 0
    assert resized[1, 8, 15] == 255
    assert (resized[0, 8, 0], resized[0, 8, 8]) == (0, 128)
    assert set(cropped[0].unique().tolist()) == {128}


def test_a_small_picture_can_be_resized_but_not_cropped(tmp_path):
    picture(tmp_path / "1.png", 9, size=(12, 40))
    with pytest.raises(InvalidInput, match=r"1\.png.*40x12.*fit=\"resize\""):
        load_pictures(tmp_path, SHAPE)
    assert load_pictures(tmp_path, SHAPE, fit="resize").shape == (1, *SHAPE)


def test_unknown_fit(folder):
    with pytest.raises(InvalidInput, match="'crop' and 'resize'"):
        load_pictures(folder, SHAPE, fit="stretch")


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_corrupt_pictures_are_named(folder, content):
    (folder / "5.png").write_bytes(content)
    with pytest.raises(BadFile, match=r"5\.png"):
        load_pictures(folder, SHAPE)


def test_a_truncated_jpeg_is_named(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "1.jpg")
    content = (tmp_path / "1.jpg").read_bytes()
    (tmp_path / "1.jpg").write_bytes(content[: len(content) // 2])
    with pytest.raises(BadFile, match=r"1\.jpg"):
        load_pictures(tmp_path, SHAPE)


@pytest.mark.parametrize("shape", [(2, 16, 16), (3, 4, 16), (3, 16)])
def test_impossible_shapes(folder, shape):
    with pytest.raises(InvalidInput, match=r"shape|pixels"):
        load_pictures(folder, shape)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "nan",
        "inf",
        "-1",
        "1.5",
        "cat",
        "1 2",
        "1e400",
        "4294967296",
        "undefined",
        "1_0",
        "+1",
        "\uff11",
    ],
)
def test_lines_that_are_no_class_are_named(tmp_path, line):
    (tmp_path / "labels.txt").write_text(f"3\n{line}\n4\n")
    with pytest.raises(BadFile, match="line 2"):
        read_numbers(tmp_path / "labels.txt")


def test_numbers_in_every_spelling(tmp_path):
    (tmp_path / "labels.txt").write_text("7.000000000000000000e+00\r\n 3\n0\nUndefined\n\n")
    assert read_numbers(tmp_path / "labels.txt", undefined=True) == [7, 3, 0, None]
    (tmp_path / "labels.txt").write_bytes(b"\xff\xfe1")
    with pytest.raises(BadFile, match="text"):
        read_numbers(tmp_path / "labels.txt")
    with pytest.raises(MissingData):
        read_numbers(tmp_path / "nothing.txt")


@pytest.mark.parametrize("labels", [[0] * 11, [0] * 13, [0] * 11 + [10], [0] * 11 + [-1]])
def test_labels_that_do_not_fit_the_pictures(folder, labels):
    with pytest.raises(InvalidInput, match=r"labels for 12|out of range"):
        PaperKey.new(image_shape=SHAPE, pictures=folder, labels=labels)


def test_too_many_pictures_are_refused_before_they_are_read(tmp_path):
    for number in range(1001):
        (tmp_path / f"{number}.png").touch()
    with pytest.raises(InvalidInput, match="1000"):
        PaperKey.new(image_shape=SHAPE, pictures=tmp_path)


def test_another_number_of_pictures_than_asked_for(folder):
    with pytest.raises(InvalidInput, match="there are 12"):
        PaperKey.new(n=100, image_shape=SHAPE, pictures=folder)
