"""Alembic scripts of the gateway's tables, applied when a gateway starts."""
