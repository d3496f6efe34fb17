"""Images with labels: from disk to batches on the device.

>>> from doorward.data import Augment, Batches, load
>>> train, test = load("digits"), load("digits", split="test")
>>> batches = Batches(train, 256, seed=0, augment=Augment(pad_crop=2))
>>> [batch.images.shape[0] for batch in batches.epoch(0)]
[256, 256, 256, 256, 256, 158]

Your own images need a folder per class, and nothing else::

    photos = load("photos", split="train", size=32)      # photos/CLASS/IMAGE
    huge = load("photos", size=224, stream=True)         # larger than memory
    cifar = load("cifar10", root="/data")                # or DOORWARD_DATA=/data

`DATASETS` lists the named sets, `fetch` downloads one of them, `grid` draws pictures.
"""

# Importing a reader files it in DATASETS.
from doorward.data import cifar as _cifar  # noqa: F401
from doorward.data import digits as _digits  # noqa: F401
from doorward.data import gtsrb as _gtsrb  # noqa: F401
from doorward.data import mnist as _mnist  # noqa: F401
from doorward.data import stl10 as _stl10  # noqa: F401
from doorward.data import svhn as _svhn  # noqa: F401
from doorward.data import tiny_imagenet as _tiny_imagenet  # noqa: F401
from doorward.data.augmentation import Augment, augment
from doorward.data.batches import Batch, Batches
from doorward.data.download import Progress, fetch
from doorward.data.folders import load_array, load_folder
from doorward.data.loading import load
from doorward.data.pictures import grid
from doorward.data.registry import DATASETS, Download, available, data_root
from doorward.data.selection import Selection, sample_indices, split_indices
from doorward.data.source import ImageData, ImageSource, to_pixels
from doorward.data.streaming import StreamedImages

__all__ = [
    "DATASETS",
    "Augment",
    "Batch",
    "Batches",
    "Download",
    "ImageData",
    "ImageSource",
    "Progress",
    "Selection",
    "StreamedImages",
    "augment",
    "available",
    "data_root",
    "fetch",
    "grid",
    "load",
    "load_array",
    "load_folder",
    "sample_indices",
    "split_indices",
    "to_pixels",
]
