"""Who may ask: names, hashed API keys, budgets and how much each is told, in one JSON file.

>>> import pathlib, tempfile
>>> path = pathlib.Path(tempfile.mkdtemp()) / "tenants.json"
>>> key = add_tenant(path, "ada", budget=1000, answers="top-3")
>>> book = TenantBook.load(path)
>>> book.find(key).name, book.find("dw_guess") is None, key in path.read_text()
('ada', True, False)

The file holds SHA-256 digests of keys. Keys are 256 random bits, so a slow hash would protect
nothing more. Gateways read the file again when it changes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import secrets
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from doorward.errors import BadFile, InvalidInput, UnknownName
from doorward.extraction.answers import Answers
from doorward.files import read_json, write_json
from doorward.records import STRICT, Record

__all__ = ["ANYBODY", "Tenant", "TenantBook", "add_tenant", "revoke_tenant"]

_FORMAT = "doorward-tenants-1"
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Tenant(Record):
    """Somebody who may ask.

    Args:
        name: letters, digits and ``._@-``.
        key: hex SHA-256 of the API key; None for everybody without one (see `ANYBODY`).
        budget: images that may be asked about, in all; None for any number.
        answers: how much is told: ``soft``, ``top-5``, ``rounded-2``, ``label``.
        stage: where on the gateway's ladder of policies the tenant begins.
        group: tenants of one group share budget, monitors, stage and answers: accounts behind
            which the same people are believed to be.
        operator: may read all metrics; give such a key to the monitoring, not to clients.
        revoked: may not ask any more; kept, so that its evidence keeps a name.
    """

    name: Name
    key: Digest | None
    budget: Annotated[int, Field(ge=0, lt=2**53)] | None = None
    answers: str = "soft"
    stage: Annotated[int, Field(ge=0, le=20)] = 0
    group: Name | None = None
    operator: bool = False
    revoked: bool = False

    def __post_init__(self) -> None:
        """Refuse unknown words for `answers` when the tenant is made, not when it asks."""
        Answers.of(self.answers)

    @property
    def account(self) -> str:
        """What budget, stage and answers go by: the group, or else the tenant."""
        return f"group:{self.group}" if self.group else self.name

    @property
    def mode(self) -> Answers:
        """`answers`, read."""
        return Answers.of(self.answers)


ANYBODY = Tenant(name="anybody", key=None)
"""Who asks a gateway that has no tenants."""


class TenantBook:
    """The tenants of a gateway.

    Args:
        tenants: with different names and keys; empty for a gateway open to anybody.

    Raises:
        InvalidInput: two tenants share a name or a key.
    """

    def __init__(self, tenants: list[Tenant] | tuple[Tenant, ...] = ()) -> None:
        self.tenants = tuple(tenants)
        self._by_key = {tenant.key: tenant for tenant in tenants if tenant.key}
        if len({tenant.name for tenant in tenants}) != len(tenants):
            raise InvalidInput("two tenants have one name", remedy="rename one")
        if len(self._by_key) != len(tenants):
            raise InvalidInput("two tenants have one key, or none", remedy="add one again")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> TenantBook:
        """Read a file written by `add_tenant`.

        Raises:
            MissingData: there is no such file.
            BadFile: it is not such a file.
        """
        return cls(_read(Path(path)))

    def find(self, key: str | None) -> Tenant | None:
        """Whose key this is, if that tenant is not revoked; `ANYBODY` if there are no tenants.

        The lookup goes by digest, so its time tells nothing of the keys.
        """
        if not self.tenants:
            return ANYBODY
        tenant = self._by_key.get(_digest(key)) if key else None
        return tenant if tenant is not None and not tenant.revoked else None


def add_tenant(path: str | os.PathLike[str], name: str, **fields: Any) -> str:
    """Add a tenant to the file, which is made if it is not there.

    Args:
        path: the file.
        name: of the tenant; a revoked one of that name gets a new key and these fields.
        fields: of `Tenant`.

    Returns:
        The API key. It is not kept anywhere else.

    Raises:
        InvalidInput: there is such a tenant, or a field is out of range.
    """
    path = Path(path)
    tenants = _read(path) if path.exists() else []
    if any(tenant.name == name and not tenant.revoked for tenant in tenants):
        raise InvalidInput(f"there is a tenant called {name!r}", remedy="revoke it first")
    key = f"dw_{secrets.token_urlsafe(32)}"
    tenant = Tenant.from_dict({"name": name, "key": _digest(key), **fields})
    _write(path, [*(other for other in tenants if other.name != name), tenant])
    return key


def revoke_tenant(path: str | os.PathLike[str], name: str) -> None:
    """Let a tenant ask no more; running gateways notice within seconds.

    Raises:
        UnknownName: there is no such tenant.
    """
    tenants = _read(Path(path))
    if name not in {tenant.name for tenant in tenants}:
        raise UnknownName.of("tenant", name, [tenant.name for tenant in tenants])
    _write(
        Path(path),
        [
            dataclasses.replace(tenant, revoked=True) if tenant.name == name else tenant
            for tenant in tenants
        ],
    )


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def _read(path: Path) -> list[Tenant]:
    content = read_json(path)
    listed = content.get("tenants") if isinstance(content, dict) else None
    if not isinstance(listed, list) or content.get("format") != _FORMAT:
        raise BadFile(
            f"{path} is no file of tenants", remedy="make one: doorward gateway tenant add"
        )
    try:
        return [Tenant.from_dict(entry) for entry in listed]
    except (InvalidInput, TypeError, ValueError) as error:
        raise BadFile(f"{path} holds a tenant that is none", why=str(error)) from error


def _write(path: Path, tenants: list[Tenant]) -> None:
    content = {"format": _FORMAT, "tenants": [tenant.to_dict() for tenant in tenants]}
    write_json(path, content, private=True)
