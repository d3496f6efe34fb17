"""Writers of tiny data sets in their official layouts, for the tests."""

import gzip
import pickle
import struct

import numpy as np
from PIL import Image


def pixels(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write_picture(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def write_cifar(root, folder, batches, meta, names_key, names, labels_key):
    """Return the images ``(N, 3, 32, 32)`` and labels of each batch that was written."""
    (root / folder).mkdir(parents=True)
    (root / folder / meta).write_bytes(pickle.dumps({names_key: names}, protocol=2))
    written = {}
    for seed, name in enumerate(batches):
        data = pixels(4, 3, 32, 32, seed=seed)
        labels = [(seed + i) % len(names) for i in range(4)]
        content = {"data": data.reshape(4, -1), labels_key: labels, "batch_label": name}
        (root / folder / name).write_bytes(pickle.dumps(content, protocol=3))
        written[name] = (data, labels)
    return written


def write_cifar10(root):
    names = [f"thing {i}" for i in range(10)]
    batches = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    folder = "cifar-10-batches-py"
    written = write_cifar(root, folder, batches, "batches.meta", "label_names", names, "labels")
    train = [written[name] for name in batches[:5]]
    images = np.concatenate([data for data, _ in train])
    labels = [label for _, part in train for label in part]
    return {"train": (images, labels), "test": written["test_batch"]}


def write_cifar100(root):
    names = [f"thing {i}" for i in range(100)]
    return write_cifar(
        root,
        "cifar-100-python",
        ["train", "test"],
        "meta",
        "fine_label_names",
        names,
        "fine_labels",
    )


def idx(array):
    return (
        bytes([0, 0, 8, array.ndim])
        + struct.pack(f">{array.ndim}I", *array.shape)
        + array.tobytes()
    )


def write_mnist(root, folder="MNIST/raw", zipped=True):
    written = {}
    (root / folder).mkdir(parents=True)
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images = pixels(5, 28, 28, seed=len(prefix))
        labels = np.arange(5, dtype=np.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            name, content = f"{prefix}-{kind}-ubyte", idx(array)
            if zipped:
                name, content = name + ".gz", gzip.compress(content)
            (root / folder / name).write_bytes(content)
        written[split] = (images[:, None], labels.tolist())
    return written


def write_fashion_mnist(root):
    return write_mnist(root, "FashionMNIST/raw", zipped=False)


def write_svhn(root):
    from scipy.io import savemat

    written = {}
    (root / "svhn").mkdir()
    for seed, split in enumerate(("train", "test")):
        images = pixels(32, 32, 3, 5, seed=seed)
        labels = np.array([[1], [2], [9], [10], [5]], dtype=np.uint8)
        savemat(
            root / "svhn" / f"{split}_32x32.mat",
            {"X": images, "y": labels},
            do_compression=bool(seed),
        )
        written[split] = (images.transpose(3, 2, 0, 1), [1, 2, 9, 0, 5])
    return written


def write_stl10(root):
    folder = root / "stl10_binary"
    folder.mkdir()
    written = {}
    for seed, split in enumerate(("train", "test")):
        images, labels = pixels(3, 3, 96, 96, seed=seed), [0, 9, 4]
        images.transpose(0, 1, 3, 2).tofile(folder / f"{split}_X.bin")
        (np.array(labels, dtype=np.uint8) + 1).tofile(folder / f"{split}_y.bin")
        written[split] = (images, labels)
    pixels(2, 3, 96, 96).transpose(0, 1, 3, 2).tofile(folder / "unlabeled_X.bin")
    return written


def write_gtsrb(root):
    """32x32 signs, so that nothing is resampled and pixels can be compared."""
    train, test = pixels(4, 32, 32, 3, seed=1), pixels(3, 32, 32, 3, seed=2)
    header = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId\n"
    row = "{};32;32;5;5;27;27;{}\n"
    for number, label in enumerate((0, 42)):
        folder = root / "GTSRB" / "Final_Training" / "Images" / f"{label:05d}"
        for image in (0, 1):
            write_picture(folder / f"00000_0000{image}.ppm", train[2 * number + image])
        rows = "".join(row.format(f"00000_0000{image}.ppm", label) for image in (0, 1))
        (folder / f"GT-{label:05d}.csv").write_text(header + rows)
    for image in range(3):
        write_picture(root / "GTSRB" / "Final_Test" / "Images" / f"{image:05d}.ppm", test[image])
    rows = "".join(row.format(f"{image:05d}.ppm", 40 + image) for image in range(3))
    (root / "GT-final_test.csv").write_text(header + rows)
    return {
        "train": (train.transpose(0, 3, 1, 2), [0, 0, 42, 42]),
        "test": (test.transpose(0, 3, 1, 2), [40, 41, 42]),
    }


def write_tiny_imagenet(root):
    """Grey JPEGs of one level each, which the format keeps exactly."""
    folder, ids = root / "tiny-imagenet-200", [f"n{number:08d}" for number in range(200)]
    folder.mkdir()
    (folder / "wnids.txt").write_text("\n".join(reversed(ids)) + "\n")
    words = [
        f"{wnid}\t{'crane' if i in (3, 5) else f'thing{i}'}, other" for i, wnid in enumerate(ids)
    ]
    (folder / "words.txt").write_text("\n".join(words))
    levels = {0: 0, 3: 100, 199: 255}
    for number, level in levels.items():
        flat = np.full((64, 64), level, dtype=np.uint8)
        wnid = ids[number]
        write_picture(folder / "train" / wnid / "images" / f"{wnid}_0.JPEG", flat, quality=100)
    lines = []
    for place, (number, level) in enumerate(levels.items()):
        flat = np.full((64, 64), level, dtype=np.uint8)
        write_picture(folder / "val" / "images" / f"val_{place}.JPEG", flat, quality=100)
        lines.append(f"val_{place}.JPEG\t{ids[number]}\t0\t0\t62\t62\n")
    (folder / "val" / "val_annotations.txt").write_text("".join(lines))
    images = np.stack([np.full((1, 64, 64), level, dtype=np.uint8) for level in levels.values()])
    return {split: (images, list(levels)) for split in ("train", "test")}


WRITERS = {
    "cifar10": write_cifar10,
    "cifar100": write_cifar100,
    "fashion-mnist": write_fashion_mnist,
    "gtsrb": write_gtsrb,
    "mnist": write_mnist,
    "stl10": write_stl10,
    "svhn": write_svhn,
    "tiny-imagenet": write_tiny_imagenet,
}
