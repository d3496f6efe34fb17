"""``doorward gateway``: tenants, evidence and monitors of ``doorward serve``.

::

    doorward gateway tenant add ada --budget 100000 --answers top-5
    doorward gateway evidence check
    doorward gateway reference net.onnx --data cifar10 --out reference.json
"""

from __future__ import annotations

import typer

from doorward.cli.gateway import evidence, measuring, tenants

__all__ = ["group"]

group = typer.Typer(
    no_args_is_help=True,
    help="Tenants, evidence and monitors of the inference gateway.",
    epilog="Example: doorward gateway tenant add ada --budget 100000 --answers top-5",
)
group.add_typer(tenants.group, name="tenant")
group.add_typer(evidence.group, name="evidence")
measuring.add_to(group)
