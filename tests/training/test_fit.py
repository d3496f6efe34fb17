import os
import signal
import threading
import time

import pytest
import torch
from torch import nn

from doorward.data import ImageData, load
from doorward.errors import (
    InvalidInput,
    ModelUnsuitable,
    TrainingDiverged,
    TrainingInterrupted,
)
from doorward.metrics import accuracy
from doorward.training import CrossEntropy, Recipe, fit
from doorward.training.checkpoints import has_checkpoint, read_checkpoint
from doorward.training.distributed import is_main_process, resolve_precision


def source_of(n=64, shape=(1, 8, 8), classes=4, name="bars"):
    """Images whose class is the bright row: easy to learn."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 60, (n, *shape), dtype=torch.uint8, generator=generator)
    labels = torch.arange(n) % classes
    images[torch.arange(n), :, labels] = 255
    return ImageData(images, labels, tuple("abcdefgh"[:classes]), name)


def model_of(classes=4, channels=1, seed=0, dropout=0.0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(channels, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Dropout(dropout), nn.Flatten(), nn.Linear(512, classes),
        )  # fmt: skip


RECIPE = Recipe(epochs=2, batch_size=16, lr=0.05, precision="fp32")


def test_it_learns_and_says_how():
    model, source, entries = model_of(), source_of(), []
    recipe = Recipe(epochs=4, batch_size=16, lr=0.05)
    result = fit(model, None, source, recipe, validation=source, on_epoch=entries.append)
    assert accuracy(model, source) == result.final["validation_accuracy"] > 0.9
    assert entries == result.history
    assert [entry["epoch"] for entry in entries] == [1, 2, 3, 4]
    assert [entry["step"] for entry in entries] == [4, 8, 12, 16]
    assert entries[-1]["loss"] < entries[0]["loss"]
    assert (result.steps, result.epochs, result.seed) == (16, 4.0, 0)
    assert result.recipe_digest == recipe.digest()
    assert 0 < result.network_seconds < result.seconds
    assert 0 <= result.overhead < 1
    assert result.peak_memory_mib > 1
    assert type(result).from_dict(result.to_dict()) == result


def test_the_mean_loss_of_an_epoch_by_hand():
    class Constant:
        def __call__(self, model, batch):
            value = float(batch.step)
            return model(batch.images).sum() * 0 + value, {"rows": float(len(batch))}

    # 40 images in batches of 16, 16 and 8: (0*16 + 1*16 + 2*8) / 40
    result = fit(model_of(), Constant(), source_of(40), Recipe(epochs=1, batch_size=16))
    assert result.final["loss"] == pytest.approx(0.8)
    assert result.final["rows"] == pytest.approx((16 * 16 + 16 * 16 + 8 * 8) / 40)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others():
    def weights(seed):
        model = model_of(dropout=0.5)
        fit(model, None, source_of(), Recipe(epochs=1, batch_size=16, seed=seed))
        return torch.cat([tensor.flatten().float() for tensor in model.state_dict().values()])

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


def test_the_model_is_left_as_it_was_but_for_its_weights_and_so_is_the_generator():
    model = model_of(dropout=0.5)
    weight = model[0].weight
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    fit(model, None, source_of(), RECIPE)
    assert torch.equal(torch.rand(1), expected)
    assert model[0].weight is weight
    assert weight.is_contiguous()
    assert weight.grad is None
    assert not any(module.training for module in model.modules())
    assert "forward" not in model[1].__dict__


def test_frozen_parameters_and_frozen_statistics_stay():
    model = model_of()
    model[0].requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    recipe = Recipe(epochs=1, batch_size=16, lr=0.05, weight_decay=0.1, batchnorm="frozen")
    fit(model, None, source_of(), recipe)
    after = model.state_dict()
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert same == {
        "0.weight", "0.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked",
    }  # fmt: skip


def test_an_average_is_what_comes_out_and_what_is_validated():
    model, source = model_of(), source_of()
    seen = []

    class Watching(CrossEntropy):
        def __call__(self, model, batch):
            seen.append(model[5].weight.detach().clone())
            return super().__call__(model, batch)

    recipe = Recipe(max_steps=2, batch_size=16, lr=0.05, schedule="constant", ema=0.9)
    result = fit(model, Watching(), source, recipe, validation=source)
    # decays min(0.9, 1/10) and min(0.9, 2/11); the weights after step 2 were never seen
    after_first = 0.1 * seen[0] + 0.9 * seen[1]
    after_second = (model[5].weight - 2 / 11 * after_first) / (9 / 11)
    assert not torch.allclose(after_second, model[5].weight, atol=1e-4)
    assert result.final["validation_accuracy"] == accuracy(model, source)


@pytest.mark.parametrize(
    ("recipe", "epochs"),
    [
        (Recipe(epochs=1.5, batch_size=16), [1, 2]),
        (Recipe(max_steps=3, batch_size=16), [1]),
        (Recipe(epochs=1, batch_size=64), [1]),
    ],
)
def test_runs_may_end_within_an_epoch(recipe, epochs):
    result = fit(model_of(), None, source_of(), recipe)
    assert [entry["epoch"] for entry in result.history] == epochs
    assert result.final["step"] == result.steps == recipe.steps(64)


def test_validation_only_at_the_end():
    source = source_of()
    result = fit(model_of(), None, source, RECIPE, validation=source, validate="end")
    assert ["validation_accuracy" in entry for entry in result.history] == [False, True]


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"source": source_of(shape=(3, 8, 8))}, ModelUnsuitable, "does not take images of 3x8x8"),
        ({"source": source_of(shape=(1, 9, 9))}, ModelUnsuitable, "does not take images of 1x9x9"),
        ({"model": model_of(classes=3)}, InvalidInput, "label 3: the model answers for 3 classes"),
        ({"model": nn.Identity()}, ModelUnsuitable, "answered"),
        ({"model": model_of().requires_grad_(False)}, InvalidInput, "no parameter to train"),
        ({"validation": source_of(classes=6)}, InvalidInput, "label 5"),
        ({"validation": load("digits")}, InvalidInput, "label 9|validation images"),
        ({"recipe": Recipe(epochs=0.01, batch_size=16)}, InvalidInput, "no training step"),
        ({"recipe": Recipe(batch_size=99, drop_last=True)}, InvalidInput, "no training step"),
        ({"device": "abacus"}, InvalidInput, "abacus"),
        ({"device": "cuda:99"}, InvalidInput, "not available"),
        ({"devices": 0}, InvalidInput, "at least 1"),
        ({"strategy": "fsdp"}, InvalidInput, "fsdp"),
        ({"checkpoint_every": 5}, InvalidInput, "folder"),
        ({"validate": "never"}, InvalidInput, "'never'"),
        ({"objective": lambda m, b: (torch.zeros(()), {})}, InvalidInput, "no loss"),
        ({"objective": lambda m, b: (m(b.images), {})}, InvalidInput, "no loss"),
        (
            {"objective": CrossEntropy(0.2), "recipe": Recipe(label_smoothing=0.1)},
            InvalidInput, "smooths",
        ),
    ],
)  # fmt: skip
def test_bad_input_is_said_before_long_work(change, error, said):
    call = {"model": model_of(), "objective": None, "source": source_of(), "recipe": RECIPE}
    with pytest.raises(error, match=said):
        fit(**{**call, **change})


def test_labels_of_a_source_of_ones_own_are_checked():
    class Mine:
        name, classes, num_classes, image_shape = "mine", ("a", "b"), 2, (1, 8, 8)
        labels = torch.tensor([0, -1])

        def __len__(self):
            return 2

        def fetch(self, indices):
            return torch.zeros(len(indices), 1, 8, 8, dtype=torch.uint8), self.labels[indices]

    with pytest.raises(InvalidInput, match="label -1"):
        fit(model_of(), None, Mine(), RECIPE)


def test_a_model_with_nan_weights_is_refused():
    model = model_of()
    with torch.no_grad():
        model[5].weight[0, 0] = float("nan")
    with pytest.raises(ModelUnsuitable, match=r"5\.weight"):
        fit(model, None, source_of(), RECIPE)


class Poisonous(CrossEntropy):
    """Becomes `value` at one step."""

    def __init__(self, step, value):
        super().__init__()
        self.step, self.value, self.steps_done = step, value, 0

    def __call__(self, model, batch):
        loss, scalars = super().__call__(model, batch)
        self.steps_done += 1
        return (loss * self.value if batch.step >= self.step else loss), scalars


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6])
def test_divergence_stops_early_and_saves_nothing_bad(tmp_path, value):
    objective = Poisonous(60, value)
    recipe = Recipe(epochs=500, batch_size=16, lr=1e-3, clip_norm=1.0, schedule="constant")
    with pytest.raises(TrainingDiverged, match=r"at step 6[0-9] of 2000") as caught:
        fit(model_of(), objective, source_of(), recipe, checkpoint=tmp_path)
    assert "lower lr (try 0.0001)".lower() in str(caught.value).lower()
    assert objective.steps_done < 200
    state = read_checkpoint(tmp_path)[1]
    assert all(bool(torch.isfinite(tensor).all()) for tensor in state["model"].values())


def test_a_last_step_that_ruins_the_weights_is_noticed(tmp_path):
    def harmless_to_look_at(model, batch):  # 0, with an infinite slope
        return (model[5].weight * 0).sum().sqrt(), {}

    with pytest.raises(TrainingDiverged, match="not finite"):
        fit(model_of(), harmless_to_look_at, source_of(), Recipe(max_steps=1), checkpoint=tmp_path)
    assert not has_checkpoint(tmp_path)


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [5, 7])  # within an epoch, and at its last step
def test_a_signal_saves_and_says_how_to_resume(tmp_path, kind, step):
    def objective_stopped_at(last):
        def objective(model, batch):
            if batch.step == last:
                os.kill(os.getpid(), kind)
            return CrossEntropy()(model, batch)

        return objective

    stopping, going_on = objective_stopped_at(step), objective_stopped_at(None)
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    recipe = Recipe(epochs=4, batch_size=16, lr=0.05, ema=0.9)
    stopped, other, whole = model_of(), model_of(seed=9), model_of()
    with pytest.raises(TrainingInterrupted, match="Run the same command") as caught:
        fit(stopped, stopping, source_of(), recipe, checkpoint=tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert f"at step {step + 1} of 16" in str(caught.value)
    assert handlers == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
    resumed = fit(other, going_on, source_of(), recipe, checkpoint=tmp_path)
    expected = fit(whole, going_on, source_of(), recipe)
    assert resumed.resumed_from == step + 1
    assert [{**entry, "seconds": 0} for entry in resumed.history] == [
        {**entry, "seconds": 0} for entry in expected.history
    ]
    torch.testing.assert_close(other.state_dict(), whole.state_dict(), rtol=0, atol=0)


def test_a_signal_in_the_last_step_is_not_lost(tmp_path):
    def stopping(model, batch):
        if batch.step == 7:
            os.kill(os.getpid(), signal.SIGINT)
        return CrossEntropy()(model, batch)

    with pytest.raises(TrainingInterrupted, match="at step 8 of 8"):
        fit(model_of(), stopping, source_of(), RECIPE, checkpoint=tmp_path)
    assert fit(model_of(), stopping, source_of(), RECIPE, checkpoint=tmp_path).steps == 8


def test_an_explosion_under_frozen_statistics_names_them(tmp_path):
    recipe = Recipe(epochs=50, batch_size=16, lr=1e-3, schedule="constant", batchnorm="frozen")
    with pytest.raises(TrainingDiverged, match="divergence=100 times") as caught:
        fit(model_of(), Poisonous(20, 1e6), source_of(), recipe)
    assert 'batchnorm="train"' in str(caught.value)


def test_a_scalar_called_loss_does_not_hide_the_loss():
    def hiding(model, batch):
        loss, _ = CrossEntropy()(model, batch)
        return loss * float("nan"), {"loss": 0.0}

    with pytest.raises(TrainingDiverged):
        fit(model_of(), hiding, source_of(), RECIPE)


def test_without_a_folder_an_interruption_says_that_nothing_is_saved():
    def stopping(model, batch):
        os.kill(os.getpid(), signal.SIGINT)
        return CrossEntropy()(model, batch)

    with pytest.raises(TrainingInterrupted, match="nothing was saved"):
        fit(model_of(), stopping, source_of(), RECIPE)


def test_it_runs_outside_the_main_thread():
    results = []
    worker = threading.Thread(
        target=lambda: results.append(fit(model_of(), None, source_of(), RECIPE))
    )
    worker.start()
    worker.join()
    assert results[0].steps == 8


def test_progress_goes_to_stderr_and_only_there(capsys):
    fit(model_of(), None, source_of(), RECIPE, progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "epoch 2/2" in shown.err
    assert "8/8" in shown.err
    assert "loss" in shown.err


def test_everything_around_the_network_is_little():
    class Slow(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = model_of()

        def forward(self, images):
            time.sleep(0.02)
            return self.net(images)

    result = fit(Slow(), None, source_of(), Recipe(epochs=5, batch_size=16, ema=0.99))
    assert result.overhead < 0.25  # of at least 20 ms a step, on a machine that may be busy


def test_an_objective_that_is_a_module_is_not_trained():
    class Weighted(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

        def forward(self, model, batch):
            return CrossEntropy()(model, batch)[0] * self.weight, {}

    objective = Weighted()
    fit(model_of(), objective, source_of(), RECIPE)
    assert objective.weight.item() == 1.0


@pytest.mark.slow
def test_compiled_networks_train_alike():
    models = [model_of(), model_of()]
    for model, compiled in zip(models, (False, True), strict=True):
        recipe = Recipe(epochs=1, batch_size=16, compile=compiled, precision="fp32")
        fit(model, None, source_of(), recipe)
    plain, compiled = (model.state_dict() for model in models)
    torch.testing.assert_close(plain, compiled, rtol=1e-3, atol=1e-4)


@pytest.mark.gpu
def test_on_a_gpu_the_model_comes_back_to_the_cpu():
    model = model_of()
    result = fit(model, None, source_of(), Recipe(epochs=4, batch_size=16, lr=0.05), device="cuda")
    assert result.final["accuracy"] > 0.5
    assert next(model.parameters()).device.type == "cpu"


@pytest.mark.parametrize(
    ("variables", "main"),
    [
        ({}, True), ({"LOCAL_RANK": "0"}, True), ({"LOCAL_RANK": "1"}, False),
        ({"LOCAL_RANK": "0", "NODE_RANK": "1"}, False), ({"RANK": "3", "LOCAL_RANK": "0"}, False),
        ({"SLURM_PROCID": "0"}, True),
    ],
)  # fmt: skip
def test_which_process_is_the_main_one(monkeypatch, variables, main):
    for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert is_main_process() is main


def test_precision_follows_the_hardware(monkeypatch):
    cpu = torch.device("cpu")
    for capable, expected in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr("doorward.training.distributed.cpu_has_bf16", lambda c=capable: c)
        assert resolve_precision("auto", cpu) == expected
        assert resolve_precision("fp32", cpu) == "fp32"
        assert resolve_precision("bf16", cpu) == "bf16"
