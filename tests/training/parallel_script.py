"""Trains with the number of processes that is asked for and writes what came of it.

Run by test_parallel.py:  python parallel_script.py PROCESSES FOLDER
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from doorward.data import Augment, Batch, ImageData
from doorward.training import CrossEntropy, Recipe, clean_rows, fit, is_main_process


class Declaring:
    """Cross-entropy that declares every row of an even label clean."""

    def __call__(self, model: nn.Module, batch: Batch):
        with clean_rows(model, batch.labels % 2 == 0):
            return CrossEntropy()(model, batch)


def work(processes: int, policy: str, folder: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    # 45 images in batches of 12: the last batch of an epoch has 9, shared as 5 and 4.
    images = torch.randint(0, 256, (45, 1, 8, 8), dtype=torch.uint8, generator=generator)
    source = ImageData(images, torch.arange(45) % 3, ("a", "b", "c"), "noise")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(),
            nn.Flatten(), nn.Linear(256, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3),
        )  # fmt: skip
    recipe = Recipe(
        epochs=3,
        batch_size=12,
        lr=0.1,
        clip_norm=1.0,
        ema=0.9,
        batchnorm=policy,
        precision="fp32",
        augment=Augment(pad_crop=1, flip=True),
    )
    result = fit(
        model, Declaring(), source, recipe,
        validation=source, device="cpu", devices=processes, checkpoint=folder / "run",
        checkpoint_every=5,
    )  # fmt: skip
    # A second call in the same processes: they are there already.
    again = fit(
        model, None, source, Recipe(max_steps=2, precision="fp32"), device="cpu", devices=processes
    )
    if is_main_process():
        folder.mkdir(exist_ok=True)
        save_file(model.state_dict(), folder / "weights.safetensors")
        report = {"first": result.to_dict(), "second": again.to_dict()}
        (folder / "result.json").write_text(json.dumps(report))


if __name__ == "__main__":
    for policy in ("train", "clean-only"):
        work(int(sys.argv[1]), policy, Path(sys.argv[2]) / policy)
