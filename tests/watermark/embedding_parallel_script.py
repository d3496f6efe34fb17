"""Marks with every method, with the number of processes that is asked for.

Run by test_embedding_parallel.py:  python embedding_parallel_script.py PROCESSES FOLDER
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from doorward.data import ImageData
from doorward.randomness import Secret
from doorward.training import Recipe, fit, is_main_process
from doorward.watermark import EMBEDDINGS, KeyParameters, MarkObjective, WatermarkKey
from doorward.watermark.methods import make_embedding

SHAPE = (1, 8, 8)


def work(processes: int, folder: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    # 45 images in batches of 12: the last batch of an epoch has 9, shared as 5 and 4; with 3
    # triggers per step one process has 2 and the other 1.
    images = torch.randint(0, 256, (45, *SHAPE), dtype=torch.uint8, generator=generator)
    source = ImageData(images, torch.arange(45) % 3, ("a", "b", "c"), "noise")
    key = WatermarkKey(Secret(b"k" * 32), KeyParameters(n=7, classes=3, image_shape=SHAPE))
    recipe = Recipe(epochs=3, batch_size=12, lr=0.05, precision="fp32")
    for name in EMBEDDINGS:
        if name == "blended":  # carriers come from each process's own images
            continue
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = nn.Sequential(
                nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(),
                nn.Flatten(), nn.Linear(256, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3),
            )  # fmt: skip
        method = make_embedding(name, {"company": 8, "warmup": 0, "shift": 1})
        objective = MarkObjective(key, 3, method=method)
        fit(model, objective, source, recipe, device="cpu", devices=processes)
        if is_main_process():
            folder.mkdir(parents=True, exist_ok=True)
            save_file(model.state_dict(), folder / f"{name}.safetensors")


if __name__ == "__main__":
    work(int(sys.argv[1]), Path(sys.argv[2]))
