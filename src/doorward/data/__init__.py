"""Images with labels: from disk to batches on the device.

>>> from doorward.data import Augment, Batches, load
>>> train, test = load("digits"), load("digits", split="test")
>>> batches = Batches(train, 256, seed=0, augment=Augment(pad_crop=2))
>>> [batch.images.shape[0] for batch in batches.epoch(0)]
[256, 256, 256, 256, 256, 158]
"""

from doorward.data import digits as _digits  # noqa: F401  (fills DATASETS)
from doorward.data.augmentation import Augment, augment
from doorward.data.batches import Batch, Batches
from doorward.data.loading import load
from doorward.data.registry import DATASETS, data_root
from doorward.data.selection import Selection, sample_indices, split_indices
from doorward.data.source import ImageData, ImageSource, to_pixels

__all__ = [
    "DATASETS",
    "Augment",
    "Batch",
    "Batches",
    "ImageData",
    "ImageSource",
    "Selection",
    "augment",
    "data_root",
    "load",
    "sample_indices",
    "split_indices",
    "to_pixels",
]
