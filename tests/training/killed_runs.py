"""Trains, is killed with SIGKILL, resumes, and says if the weights are those of a whole run.

Run by test_resume.py in a process of its own, because it forks before PyTorch starts threads:

    python killed_runs.py FOLDER CASE... -> one JSON line per case
"""

import dataclasses
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import lightning_fabric  # noqa: F401  (once, not in every child)
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import doorward.files
from doorward.data import Augment, ImageData
from doorward.training import CrossEntropy, Recipe, fit

torch.set_num_threads(1)

BASE = Recipe(
    epochs=3, batch_size=16, lr=0.05, weight_decay=1e-3, augment=Augment(pad_crop=1, flip=True)
)  # 60 images: 4 steps per epoch, the last of 12 images; 12 steps in all

CASES: dict[str, tuple[Recipe, int | None]] = {
    "sgd-onecycle": (BASE, None),
    "sgd-ema-every-step": (dataclasses.replace(BASE, ema=0.9), 1),
    "adamw-cosine-ema": (
        dataclasses.replace(BASE, optimizer="adamw", lr=1e-3, schedule="cosine", ema=0.9),
        3,
    ),
    "adam-step-clip": (
        dataclasses.replace(
            BASE, optimizer="adam", lr=1e-3, schedule="step", clip_norm=0.5, warmup=0.2
        ),
        2,
    ),
    "frozen-contiguous": (dataclasses.replace(BASE, batchnorm="frozen", channels_last=False), 5),
    "bf16-fraction-of-epochs": (dataclasses.replace(BASE, precision="bf16", epochs=2.5), 3),
}


class Counting(CrossEntropy):
    """Cross-entropy whose smoothing depends on how often it was called: state that must survive."""

    def __init__(self, at: Callable[[int], None] = lambda step: None) -> None:
        super().__init__()
        self.calls, self.at = 0, at

    def __call__(self, model, batch):
        self.at(batch.step)
        self.calls += 1
        self.label_smoothing = 0.01 * self.calls
        return super().__call__(model, batch)

    def state_dict(self):
        return {"calls": self.calls}

    def load_state_dict(self, state):
        self.calls = state["calls"]


def train(case: str, folder: Path, at: Callable[[int], None] = lambda step: None) -> None:
    recipe, every = CASES[case]
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (60, 3, 8, 8), dtype=torch.uint8, generator=generator)
    source = ImageData(images, torch.arange(60) % 3, ("a", "b", "c"), "noise")
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.3),
        nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3),
    )  # fmt: skip
    result = fit(
        model, Counting(at), source, recipe, device="cpu",
        checkpoint=folder / "run", checkpoint_every=every,
    )  # fmt: skip
    history = [{k: v for k, v in entry.items() if k != "seconds"} for entry in result.history]
    (folder / "history.json").write_text(json.dumps([history, result.resumed_from]))
    save_file(model.state_dict(), folder / "weights.safetensors")


def in_child(work: Callable[[], None]) -> int:
    """Exit status of the work done in a forked process, as os.waitpid gives it."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1]


def killed_at(step: int) -> Callable[[int], None]:
    def at(now: int) -> None:
        if now == step:
            os.kill(os.getpid(), signal.SIGKILL)

    return at


def same(left: Path, right: Path) -> bool:
    ours, theirs = (load_file(folder / "weights.safetensors") for folder in (left, right))
    histories = [json.loads((folder / "history.json").read_text())[0] for folder in (left, right)]
    return histories[0] == histories[1] and all(
        torch.equal(ours[name], theirs[name]) for name in theirs
    )


def at_steps(case: str, folder: Path, whole: Path) -> dict[str, object]:
    """One kill in each of many steps, each time resuming the same run."""
    kills = 0
    for step in (0, 3, 5, 9):
        status = in_child(lambda step=step: train(case, folder, killed_at(step)))
        kills += os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    finished = in_child(lambda: train(case, folder)) == 0
    resumed_from = json.loads((folder / "history.json").read_text())[1]
    again = in_child(lambda: train(case, folder, killed_at(0))) == 0  # no step is done twice
    return {
        "case": case, "kills": kills, "finished": finished, "resumed_from": resumed_from,
        "same": same(folder, whole), "repeat_is_free": again,
    }  # fmt: skip


def at_any_moment(case: str, folder: Path, whole: Path) -> dict[str, object]:
    """Kills from outside at random moments, within steps, batches and writing of files."""
    chance, kills = random.Random(0), 0
    while True:
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            train(case, folder)
            os._exit(0)
        time.sleep(chance.uniform(0.005, 0.01) * 1.2**kills)  # longer and longer, to end at all
        os.kill(child, signal.SIGKILL)
        if os.WIFEXITED(os.waitpid(child, 0)[1]):
            break
        kills += 1
    return {"case": f"{case}-any-moment", "kills": kills, "same": same(folder, whole)}


def while_writing(case: str, folder: Path, whole: Path) -> dict[str, object]:
    """Kills just before and just after each rename that puts a file of the checkpoint in place."""
    replace, kills = os.replace, 0
    for number in range(8):
        for before in (True, False):

            def work(number: int = number, before: bool = before) -> None:
                renames = 0

                def deadly(source: object, target: object) -> None:
                    nonlocal renames
                    renames += 1
                    if not before:
                        replace(source, target)
                    if renames > number:
                        os.kill(os.getpid(), signal.SIGKILL)
                    if before:
                        replace(source, target)

                doorward.files.os.replace = deadly
                train(case, folder)

            kills += os.WIFSIGNALED(in_child(work))
    finished = in_child(lambda: train(case, folder)) == 0
    left = sorted(path.name.partition("-")[0] for path in (folder / "run").iterdir())
    return {
        "case": f"{case}-while-writing", "kills": kills, "finished": finished,
        "same": same(folder, whole), "left": left,
    }  # fmt: skip


def say(report: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(report) + "\n")
    sys.stdout.flush()


def main(root: Path, cases: list[str]) -> None:
    for case in cases:
        whole = root / f"{case}-whole"
        folders = [root / f"{case}-{kind}" for kind in ("steps", "moment", "writing")]
        for folder in (whole, *folders):
            folder.mkdir(parents=True)
        assert in_child(lambda case=case, whole=whole: train(case, whole)) == 0
        say(at_steps(case, folders[0], whole))
        if case == "adamw-cosine-ema":
            say(at_any_moment(case, folders[1], whole))
        if case == "sgd-ema-every-step":
            say(while_writing(case, folders[2], whole))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
