"""Devices, precision and processes, through Lightning Fabric.

With ``devices=2`` on a command line or in a script, Fabric starts the same command once more for
each further process; all of them run the same program up to and past `fit`, share every batch and
end with the same weights. What must happen once (printing, writing files) asks `is_main_process`:

>>> is_main_process()
True

Clusters that start the processes themselves (torchrun, SLURM) are recognised by Fabric.
"""

from __future__ import annotations

import atexit
import inspect
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from doorward.errors import InvalidInput
from doorward.records import cpu_has_bf16

__all__ = [
    "agree",
    "is_main_process",
    "make_fabric",
    "resolve_device",
    "resolve_precision",
    "sum_over_processes",
]

STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_true")


def is_main_process() -> bool:
    """Whether this process is the first of a data-parallel run, or the only one."""
    rank = os.environ.get("RANK") or os.environ.get("SLURM_PROCID")
    if rank is not None:
        return int(rank) == 0
    return all(int(os.environ.get(name, 0)) == 0 for name in ("NODE_RANK", "LOCAL_RANK"))


def resolve_device(device: str | torch.device) -> torch.device:
    """The device meant by ``"auto"`` (CUDA where there is one, else the CPU) or by its name.

    Raises:
        InvalidInput: the name is unknown, or this machine or this PyTorch has no such device.
    """
    if str(device) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        wanted = torch.device(device)
    except RuntimeError as error:
        raise InvalidInput(
            f"there is no device called {str(device)!r}",
            remedy="say auto, cpu, cuda, cuda:1 or mps",
        ) from error
    count = {
        "cpu": 1,
        "cuda": torch.cuda.device_count(),
        "mps": int(torch.backends.mps.is_available()),
    }.get(wanted.type, 0)
    if (wanted.index or 0) >= count:
        raise InvalidInput(
            f"device {wanted} is not available",
            why=f"PyTorch {torch.__version__} finds {count} of type {wanted.type} here",
            remedy="say device='auto', or install a PyTorch build for your hardware",
        )
    return wanted


def resolve_precision(precision: str, device: torch.device) -> str:
    """``"bf16"`` or ``"fp32"``; ``"auto"`` means bf16 where the hardware multiplies it."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        capable = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        capable = device.type == "cpu" and cpu_has_bf16()
    return "bf16" if capable else "fp32"


def make_fabric(
    *, device: str | torch.device, devices: int, nodes: int, strategy: str, precision: str
) -> Any:
    """A launched `lightning_fabric.Fabric`.

    Args:
        device: see `resolve_device`.
        devices: processes on each machine.
        nodes: machines.
        strategy: ``"auto"``, ``"ddp"``, or ``"ddp_find_unused_parameters_true"`` for objectives
            that leave some trainable parameters unused in a step.
        precision: of the recipe.

    Raises:
        InvalidInput: an argument is out of range, or this program cannot be started again.
    """
    if devices < 1 or nodes < 1:
        raise InvalidInput(f"devices={devices} and nodes={nodes} must be at least 1")
    if strategy not in STRATEGIES:
        raise InvalidInput(
            f"strategy {strategy!r} is not supported",
            remedy=f"choose one of {', '.join(STRATEGIES)}",
        )
    target = resolve_device(device)
    several = devices * nodes > 1
    if several:
        _check_can_relaunch()
    if target.type == "cuda" and devices > torch.cuda.device_count():
        raise InvalidInput(
            f"devices={devices}, but this machine has {torch.cuda.device_count()} GPUs"
        )
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.ddp import DDPStrategy

    plan: Any = "auto"
    if several:
        # BatchNorm statistics are kept equal by `batchnorm_policy`: no broadcast per step.
        named = inspect.signature(DistributedDataParallel).parameters
        buffers = "forward_sync_buffers" if "forward_sync_buffers" in named else "broadcast_buffers"
        options: dict[str, Any] = {
            buffers: False,
            "gradient_as_bucket_view": True,
            "find_unused_parameters": strategy.endswith("_true"),
        }
        plan = DDPStrategy(**options)
    single = target.type == "cuda" and devices == 1
    with _quiet():
        fabric = Fabric(
            accelerator=target.type,
            devices=[target.index or 0] if single else devices,
            num_nodes=nodes,
            strategy=plan,
            precision=(
                "bf16-mixed" if resolve_precision(precision, target) == "bf16" else "32-true"
            ),
        )
        if several:
            fabric.launch()
            atexit.register(_leave_group)
    return fabric


def _leave_group() -> None:
    # A gloo group that is still there when the interpreter goes down may end the process with
    # std::terminate: its threads are joined by nobody. (Lightning cleans up after NCCL only.)
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def agree(fabric: Any, flag: bool) -> bool:
    """Whether the flag is raised in any process; all processes must ask together."""
    if fabric.world_size == 1:
        return flag
    raised = fabric.all_reduce(torch.tensor(float(flag), device=fabric.device), reduce_op="sum")
    return bool(raised > 0)


def sum_over_processes(fabric: Any, sums: dict[str, list[float]]) -> dict[str, list[float]]:
    """Add up the processes' accounts (`Ledger.sums`); all must hold the same names."""
    if fabric.world_size == 1 or not sums:
        return sums
    names = sorted(sums)
    mine = torch.tensor([sums[name] for name in names], dtype=torch.float64, device=fabric.device)
    totals = dict(zip(names, fabric.all_reduce(mine, reduce_op="sum").tolist(), strict=True))
    return {name: totals[name] for name in sums}


def _check_can_relaunch() -> None:
    external = any(name in os.environ for name in ("LOCAL_RANK", "SLURM_PROCID"))
    main = sys.modules.get("__main__")
    named = getattr(main, "__spec__", None) is not None
    if not external and not named and not Path(sys.argv[0]).is_file():
        raise InvalidInput(
            "this program cannot be started again for further processes",
            why="it comes from an interactive session or from python -c, not from a file",
            remedy="save it as a script, use the doorward command, or start it with torchrun",
        )


@contextmanager
def _quiet() -> Iterator[None]:
    # Fabric announces processes and precision at level INFO on a handler of its own.
    logger = logging.getLogger("lightning_fabric")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
