"""``doorward gateway tenant``: who may ask, how often, and how much each is told.

::

    doorward gateway tenant add ada --budget 100000 --answers top-5
    doorward gateway tenant list
    doorward gateway tenant place ada --stage 0
    doorward gateway tenant revoke ada
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from doorward.cli.common import Json, answer, table
from doorward.cli.gateway.options import Database, SecretFile, Tenants

__all__ = ["group"]

group = typer.Typer(
    no_args_is_help=True,
    help="Who may ask, how often, and what each is told.",
    epilog="Example: doorward gateway tenant add ada --budget 100000 --answers top-5",
)

Name = Annotated[str, typer.Argument(help="The tenant's name.")]
DEFAULT = Path("tenants.json")


@group.command(epilog="Example: doorward gateway tenant add ada --budget 100000 --answers top-5")
def add(
    name: Name,
    tenants: Tenants = DEFAULT,
    budget: Annotated[
        int | None,
        typer.Option(help="Images, in all. Default: any number.", min=0, show_default=False),
    ] = None,
    answers: Annotated[
        str, typer.Option(help="How much is told: soft, top-5, rounded-2, label.")
    ] = "soft",
    stage: Annotated[
        int, typer.Option(help="Where to begin: 0 clean, 1 honeypot, 2 labels only.", min=0)
    ] = 0,
    shared: Annotated[
        str | None,
        typer.Option(
            "--group",
            help="Tenants of one group share budget, monitors and stage.",
            show_default=False,
        ),
    ] = None,
    operator: Annotated[
        bool, typer.Option("--operator", help="May read the metrics of all tenants.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Add a tenant and print its API key, which is stored nowhere."""
    from doorward.serving.gateway import add_tenant

    key = add_tenant(
        tenants, name, budget=budget, answers=answers, stage=stage, group=shared, operator=operator
    )
    answer(
        {"tenant": name, "key": key, "tenants": str(tenants)},
        as_json=as_json,
        lines=f"{key}\nThis is the only copy. Send it as: Authorization: Bearer KEY",
    )


@group.command("list", epilog="Example: doorward gateway tenant list --json")
def list_(
    tenants: Tenants = DEFAULT,
    database: Database = "doorward-gateway.sqlite",
    secret: SecretFile = Path("doorward-gateway.secret"),
    as_json: Json = False,
) -> None:
    """Show the tenants, and what they have used where there is a database."""
    from doorward.serving.gateway import TenantBook

    accounts = _accounts(database, secret)
    rows = []
    for tenant in TenantBook.load(tenants).tenants:
        kept = accounts.get(tenant.account)
        used, stage = (kept.used, kept.stage) if kept is not None else (0, 0)
        shown = {key: value for key, value in tenant.to_dict().items() if key != "key"}
        rows.append({**shown, "used": used, "stage": max(stage, tenant.stage)})
    answer(
        {"tenants": rows},
        as_json=as_json,
        lines=table(
            ["tenant", "used", "budget", "answers", "stage", "group", ""],
            [
                [
                    row["name"], str(row["used"]),
                    "any" if row["budget"] is None else str(row["budget"]),
                    row["answers"], str(row["stage"]), row["group"] or "",
                    "revoked" if row["revoked"] else "operator" if row["operator"] else "",
                ]
                for row in rows
            ],
        ),
    )  # fmt: skip


@group.command(epilog="Example: doorward gateway tenant revoke ada")
def revoke(name: Name, tenants: Tenants = DEFAULT, as_json: Json = False) -> None:
    """Let a tenant ask no more; running gateways notice within seconds."""
    from doorward.serving.gateway import revoke_tenant

    revoke_tenant(tenants, name)
    answer({"tenant": name, "revoked": True}, as_json=as_json, lines=f"{name} may ask no more.")


@group.command(epilog="Example: doorward gateway tenant place ada --stage 0")
def place(
    name: Name,
    stage: Annotated[
        int, typer.Option(help="On the gateway's ladder: 0 clean, 1 honeypot, ...", min=0)
    ],
    tenants: Tenants = DEFAULT,
    database: Database = "doorward-gateway.sqlite",
    secret: SecretFile = Path("doorward-gateway.secret"),
    as_json: Json = False,
) -> None:
    """Put a tenant, and its group, at a stage: up at once, down after a false alarm."""
    from doorward.errors import UnknownName
    from doorward.serving.database import Database as Sql
    from doorward.serving.gateway import EvidenceLog, TenantBook, read_secret

    found = {tenant.name: tenant for tenant in TenantBook.load(tenants).tenants}
    if name not in found:
        raise UnknownName.of("tenant", name, found)
    log = EvidenceLog(Sql(database), read_secret(secret))
    account = found[name].account
    log.place(account, stage, reason={"by": "operator"})
    answer(
        {"tenant": name, "account": account, "stage": stage},
        as_json=as_json,
        lines=f"{account} is at stage {stage}; running gateways notice with its next answer.",
    )


def _accounts(database: str, secret: Path) -> dict[str, Any]:
    from doorward.serving.database import Database as Sql
    from doorward.serving.gateway import EvidenceLog, read_secret

    if not secret.exists():
        return {}
    return dict(EvidenceLog(Sql(database), read_secret(secret)).accounts())
