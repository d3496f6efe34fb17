"""ImageData: what it accepts, what it refuses, and what its methods give."""

import pytest
import torch
from PIL import Image

from doorward.data import ImageData, grid, sample_indices, split_indices, to_pixels
from doorward.errors import InvalidInput, UnknownName

BYTES = torch.uint8


def make(count=10, classes=3, channels=3, side=8, seed=0):
    random = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, channels, side, side), dtype=BYTES, generator=random)
    names = tuple("abcdefghij"[:classes])
    return ImageData(images, torch.arange(count) % classes, names, "made")


GOOD = {
    "images": torch.zeros(2, 3, 8, 8, dtype=BYTES),
    "labels": torch.tensor([0, 1]),
    "classes": ("a", "b"),
}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"images": torch.zeros(2, 3, 8, 8)}, "torch.float32"),
        ({"images": torch.zeros(2, 8, 8, 3, dtype=BYTES)}, r"permute\(0, 3, 1, 2\)"),
        ({"images": torch.zeros(3, 8, 8, dtype=BYTES)}, "shape"),
        ({"images": torch.zeros(2, 3, 0, 8, dtype=BYTES)}, "shape"),
        ({"images": torch.zeros(0, 3, 8, 8, dtype=BYTES)}, "no images"),
        ({"labels": torch.tensor([0, 1], dtype=torch.int32)}, "torch.int32"),
        ({"labels": torch.tensor([0, 1, 0])}, "2 images need labels"),
        ({"labels": torch.tensor([[0], [1]])}, "2 images need labels"),
        ({"labels": torch.tensor([0, 2])}, "label 2 is out of range"),
        ({"labels": torch.tensor([0, -1])}, "label -1 is out of range"),
        ({"classes": ()}, "class names"),
        ({"classes": ("a", "a")}, "each once"),
    ],
)
def test_what_does_not_fit_is_refused(change, says):
    with pytest.raises(InvalidInput, match=says):
        ImageData(**(GOOD | change))


def test_pixels_are_floats_between_0_and_1():
    data = ImageData(
        torch.tensor([0, 51, 255], dtype=BYTES).view(3, 1, 1, 1), torch.zeros(3).long(), ("a",)
    )
    assert data.pixels().flatten().tolist() == pytest.approx([0, 0.2, 1])
    assert data.pixels([2]).tolist() == [[[[1.0]]]]
    assert data.images.dtype == BYTES
    floats = torch.rand(2, 3)
    assert to_pixels(floats) is floats


def test_subset_by_positions_and_by_mask():
    data = make()
    assert data.subset([3, 1]).labels.tolist() == [0, 1]
    assert torch.equal(data.subset([3, 1]).images, data.images[[3, 1]])
    mask = data.labels == 2
    assert torch.equal(data.subset(mask).images, data.images[mask])


@pytest.mark.parametrize("indices", [[], [10], [-1], [0.5], torch.zeros(10, dtype=torch.bool)])
def test_subset_refuses(indices):
    with pytest.raises(InvalidInput):
        make().subset(indices)


def test_subset_refuses_a_mask_of_another_length():
    with pytest.raises(InvalidInput, match="mask"):
        make().subset(torch.ones(4, dtype=torch.bool))


def test_classes_by_number_and_name():
    data = make()
    assert data.counts().tolist() == [4, 3, 3]
    assert data.of_class(1).labels.tolist() == [1, 1, 1]
    assert torch.equal(data.of_class("b").images, data.of_class(1).images)
    assert data.without_class(0).counts().tolist() == [0, 3, 3]
    assert data.without_class(0).num_classes == 3
    with pytest.raises(UnknownName, match="Known: a, b, c"):
        data.of_class("d")
    with pytest.raises(InvalidInput, match=r"0\.\.2"):
        data.of_class(3)


def test_channels_both_ways_as_pillow_does():
    colour = make(side=16)
    grey = colour.with_channels(1)
    assert grey.image_shape == (1, 16, 16)
    for image, expected in zip(colour.images, grey.images, strict=True):
        pillow = Image.fromarray(image.permute(1, 2, 0).numpy()).convert("L")
        assert list(pillow.tobytes()) == expected.flatten().tolist()
    back = grey.with_channels(3)
    assert torch.equal(back.images[:, 2:], grey.images)
    assert colour.with_channels(3) is colour
    with pytest.raises(InvalidInput):
        colour.with_channels(2)


def test_resizing_keeps_constant_images_and_averages():
    flat = ImageData(torch.full((1, 1, 8, 8), 77, dtype=BYTES), torch.tensor([0]), ("a",))
    assert flat.resized(5).images.unique().tolist() == [77]
    assert flat.resized((4, 6)).image_shape == (1, 4, 6)
    assert flat.resized(8) is flat
    ramp = ImageData(
        torch.tensor([0, 100], dtype=BYTES).view(1, 1, 1, 2), torch.tensor([0]), ("a",)
    )
    assert ramp.resized((1, 1)).images.item() == 50
    with pytest.raises(InvalidInput):
        flat.resized(0)


def test_digest_names_the_content():
    data = make()
    assert data.digest() == make().digest()
    assert data.digest() != make(seed=1).digest()
    relabelled = ImageData(data.images, data.labels.flip(0), data.classes)
    assert data.digest() != relabelled.digest()
    turned = ImageData(data.images.permute(0, 1, 3, 2), data.labels, data.classes)
    assert turned.digest() != data.digest()


def test_grid_places_every_image():
    images = torch.tensor([0.0, 0.5, 1.0]).view(3, 1, 1, 1).expand(3, 1, 4, 4)
    picture = grid(images, columns=2, scale=2)
    assert picture.size == (18, 18)
    centres = [picture.getpixel(place) for place in ((4, 4), (14, 4), (4, 14), (14, 14))]
    assert centres == [(0, 0, 0), (128, 128, 128), (255, 255, 255), (255, 255, 255)]
    captioned = grid(make(4, side=32), labels=["a", "b", "c", "a very long caption"])
    assert captioned.size[1] > grid(make(4, side=32)).size[1]


@pytest.mark.parametrize(
    "call",
    [
        lambda: grid(torch.zeros(0, 3, 4, 4)),
        lambda: grid(torch.zeros(3, 4, 4)),
        lambda: grid(torch.zeros(2, 3, 4, 4), labels=["one"]),
        lambda: grid(torch.zeros(2, 3, 4, 4), scale=0),
    ],
)
def test_grid_refuses(call):
    with pytest.raises(InvalidInput):
        call()


def test_refusals_of_selection():
    labels = torch.tensor([0, 1, 0, 1])
    for parts in ((), (0.5, 2), (0.6, 0.6), (3, 2), (0, 1), (-0.5,), (0.01, 0.5)):
        with pytest.raises(InvalidInput):
            split_indices(labels, parts, seed=0)
    for count in (0, 5, -1):
        with pytest.raises(InvalidInput):
            sample_indices(labels, count, seed=0)
