"""The first tables of the desk."""

import sqlalchemy as sa
from alembic import op

revision = "desk_0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    text = sa.Text()
    digest, whole = sa.String(64), sa.BigInteger()
    op.create_table(
        "desk_accounts",
        sa.Column("fingerprint", digest, primary_key=True),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("public", text, nullable=False),
        sa.Column("created", whole, nullable=False),
    )
    op.create_table(
        "desk_balances",
        sa.Column("account", sa.String(80), primary_key=True),
        sa.Column("cents", whole, nullable=False),
        sa.CheckConstraint("cents >= 0 OR account = 'outside'", name="no_overdraft"),
    )
    op.create_table(
        "desk_transfers",
        sa.Column("key", sa.String(200), primary_key=True),
        sa.Column("reason", sa.String(200), nullable=False),
        sa.Column("at", whole, nullable=False),
    )
    op.create_table(
        "desk_entries",
        sa.Column(
            "transfer", sa.String(200), sa.ForeignKey("desk_transfers.key"), primary_key=True
        ),
        sa.Column("account", sa.String(80), primary_key=True),
        sa.Column("cents", whole, nullable=False),
    )
    op.create_index("ix_desk_entries_account", "desk_entries", ["account"])
    account = "desk_accounts.fingerprint"
    op.create_table(
        "desk_deals",
        sa.Column("id", digest, primary_key=True),
        sa.Column("seller", digest, sa.ForeignKey(account), nullable=False),
        sa.Column("buyer", digest, sa.ForeignKey(account), nullable=True),
        sa.Column("stage", sa.String(20), nullable=False),
        sa.Column("due", whole, nullable=True),
        sa.Column("created", whole, nullable=False),
        sa.Column("events", sa.Integer(), nullable=False),
        sa.Column("listing", text, nullable=False),
        sa.Column("state", text, nullable=False),
    )
    for column in ("seller", "buyer", "stage", "due"):
        op.create_index(f"ix_desk_deals_{column}", "desk_deals", [column])
    op.create_table(
        "desk_events",
        sa.Column("deal", digest, sa.ForeignKey("desk_deals.id"), primary_key=True),
        sa.Column("number", sa.Integer(), primary_key=True),
        sa.Column("content", text, nullable=False),
    )
    op.create_table(
        "desk_artefacts",
        sa.Column("deal", digest, sa.ForeignKey("desk_deals.id"), primary_key=True),
        sa.Column("kind", sa.String(20), primary_key=True),
        sa.Column("sha256", digest, nullable=False),
        sa.Column("size", whole, nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
    )
    op.create_table(
        "desk_documents",
        sa.Column("deal", digest, sa.ForeignKey("desk_deals.id"), primary_key=True),
        sa.Column("sha256", digest, primary_key=True),
        sa.Column("content", text, nullable=False),
    )
    op.create_table(
        "desk_nonces",
        sa.Column("account", digest, primary_key=True),
        sa.Column("nonce", sa.String(32), primary_key=True),
        sa.Column("expires", whole, nullable=False),
    )
    op.create_index("ix_desk_nonces_expires", "desk_nonces", ["expires"])
    op.create_table(
        "desk_audit",
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("at", whole, nullable=False),
        sa.Column("actor", digest, nullable=False),
        sa.Column("action", sa.String(40), nullable=False),
        sa.Column("subject", digest, nullable=False),
        sa.Column("content", text, nullable=False),
        sa.Column("previous", digest, nullable=False),
        sa.Column("body", digest, nullable=False),
        sa.Column("sha256", digest, nullable=False),
    )
    op.create_index("desk_audit_subject", "desk_audit", ["subject"])
    op.create_table(
        "desk_visits",
        sa.Column("token", digest, primary_key=True),
        sa.Column("account", digest, sa.ForeignKey(account), nullable=False),
        sa.Column("expires", whole, nullable=False),
        sa.Column("entered", sa.Boolean(), nullable=False),
    )
    op.create_index("ix_desk_visits_expires", "desk_visits", ["expires"])


def downgrade() -> None:
    """Drop the tables, and all that is in them."""
    for table in (
        "visits", "audit", "nonces", "documents", "artefacts", "events", "deals", "entries",
        "transfers", "balances", "accounts",
    ):  # fmt: skip
        op.drop_table(f"desk_{table}")
