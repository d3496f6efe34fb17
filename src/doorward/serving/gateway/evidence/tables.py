"""The gateway's tables. Schema changes are scripts in `doorward.serving.gateway.migrations`.

>>> sorted(METADATA.tables)
['gateway_accounts', 'gateway_chain', 'gateway_evidence']
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, MetaData, String, Table, Text

import doorward.serving.gateway.migrations

__all__ = ["ACCOUNTS", "CHAIN", "EVIDENCE", "METADATA", "MIGRATIONS", "VERSION_TABLE"]

METADATA = MetaData()

EVIDENCE = Table(
    "gateway_evidence",
    METADATA,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("time", BigInteger, nullable=False),  # microseconds since 1970, UTC
    Column("kind", String(16), nullable=False),  # answer or move
    Column("tenant", String(80), nullable=False, index=True),
    Column("account", String(80), nullable=False),
    Column("count", Integer, nullable=False),
    Column("facts", Text, nullable=False),  # canonical JSON
    Column("queries", LargeBinary, nullable=False),  # 32 bytes per image
    Column("answers", LargeBinary, nullable=False),  # 32 bytes per image
    Column("digest", LargeBinary, nullable=False),
)
"""One row per answered request, and one per move of a tenant; never changed."""

CHAIN = Table(
    "gateway_chain",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),  # 1
    Column("length", BigInteger, nullable=False),
    Column("head", LargeBinary, nullable=False),
    Column("seal", LargeBinary, nullable=False),
)
"""Where the chain ends, under the gateway's secret. Gateways that share a database queue here."""

ACCOUNTS = Table(
    "gateway_accounts",
    METADATA,
    Column("account", String(80), primary_key=True),
    Column("used", BigInteger, nullable=False),
    Column("stage", Integer, nullable=False),
)
"""What each account has used of its budget, and its stage on the ladder."""

MIGRATIONS = Path(doorward.serving.gateway.migrations.__file__).parent
VERSION_TABLE = "gateway_version"
