"""One SQL database: SQLite by default, PostgreSQL by URL; sessions, settings, migrations.

>>> database = Database("sqlite://")                     # in memory; or sqlite:///desk.sqlite
>>> with database.writing() as session:                  # one transaction: all of it, or nothing
...     _ = session.connection().exec_driver_sql("create table sums (cents integer)")
>>> with database.reading() as session:
...     session.connection().exec_driver_sql("select count(*) from sums").scalar()
0

On SQLite a writing transaction takes the write lock when it begins (``BEGIN IMMEDIATE``), so two
writers wait for each other and never fail half-way; readers go on beside them (write-ahead log).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doorward.errors import InvalidInput, MissingDependency, StorageFailed

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine
    from sqlalchemy.orm import Session

__all__ = ["Database", "engine_from", "upgrade"]

BUSY_SECONDS = 30
"""How long a writer waits for the others before it gives up."""

DURABILITY = "FULL"
"""SQLite's ``synchronous``: FULL survives a power cut, at one flush of the disk per commit."""

_WRITES = "doorward_writes"
_ADVISORY_LOCK = 0x646F6F72  # "door": two processes that start together migrate one by one


class Database:
    """An engine with its two kinds of sessions.

    Args:
        url: an SQLAlchemy URL (``sqlite:///path``, ``postgresql+psycopg://user@host/name``), or a
            path, which is a SQLite file.
        options: passed to `sqlalchemy.create_engine` (pool size and the like).

    Raises:
        InvalidInput: the URL is malformed or of another database.
        MissingDependency: SQLAlchemy or the driver is not installed.
    """

    def __init__(self, url: str | os.PathLike[str], **options: Any) -> None:
        from sqlalchemy.orm import sessionmaker

        self.engine = engine_from(url, **options)
        self._read = sessionmaker(self.engine, expire_on_commit=False)
        writer = self.engine.execution_options(**{_WRITES: True})
        self._write = sessionmaker(writer, expire_on_commit=False)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that only reads: one consistent view, rolled back at the end.

        Raises:
            StorageFailed: the database does not answer.
        """
        with _told(), self._read() as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A session in one transaction: committed when the block ends, rolled back on any error.

        Raises:
            StorageFailed: the database refused to commit or was locked for too long.
        """
        with _told(), self._write() as session, session.begin():
            yield session

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def engine_from(url: str | os.PathLike[str], **options: Any) -> Engine:
    """An engine for `url` with the settings that a ledger needs.

    SQLite: write-ahead log, foreign keys enforced, waiting instead of failing when busy, every
    commit flushed to the disk. An in-memory database is one connection shared by all threads.
    PostgreSQL: connections are tested before use.

    Args:
        url: see `Database`.
        options: passed to `sqlalchemy.create_engine`.
    """
    try:
        from sqlalchemy import create_engine, event
        from sqlalchemy.engine import make_url
        from sqlalchemy.exc import ArgumentError
        from sqlalchemy.pool import StaticPool
    except ImportError as error:
        raise MissingDependency.of("sqlalchemy", "serve", "keep a database") from error
    text = os.fspath(url)
    try:
        parsed = make_url(text if ":" in text else f"sqlite:///{Path(text).resolve()}")
    except ArgumentError as error:
        raise InvalidInput(
            f"{text.partition('@')[2] or text!r} is not the URL of a database",
            remedy="write sqlite:///file.sqlite or postgresql+psycopg://user@host/name",
        ) from error
    backend = parsed.get_backend_name()
    if backend not in ("sqlite", "postgresql"):
        raise InvalidInput(
            f"the database {backend!r} is not supported", remedy="use sqlite or postgresql"
        )
    if backend == "postgresql":
        if parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        try:
            return create_engine(parsed, pool_pre_ping=True, **options)
        except ImportError as error:
            raise MissingDependency.of("psycopg", "postgres", "talk to PostgreSQL") from error
    memory = parsed.database in (None, "", ":memory:")
    if memory:
        options = {"poolclass": StaticPool, **options}
    arguments = {"timeout": BUSY_SECONDS, "check_same_thread": False}
    engine = create_engine(parsed, connect_args=arguments, **options)
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def upgrade(database: Database, versions: Path, *, table: str) -> None:
    """Bring the tables of one service up to date (Alembic), whatever state they are in.

    Args:
        database: where.
        versions: the folder of the service's migration scripts.
        table: where Alembic notes the version; one per service, so that services share a database.

    Raises:
        StorageFailed: the database cannot be written, or a newer Doorward wrote it.
    """
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError

    script = ScriptDirectory(str(versions), version_locations=[str(versions)])

    def steps(current: Any, _: Any) -> Any:
        return script._upgrade_revs("head", current)

    try:
        with (
            _told(),
            database.engine.execution_options(**{_WRITES: True}).connect() as connection,
            connection.begin(),
        ):
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql(f"select pg_advisory_xact_lock({_ADVISORY_LOCK})")
            # No env.py: the environment is this function, so a host's own Alembic is not involved.
            with EnvironmentContext(Config(), script, fn=steps) as environment:
                environment.configure(
                    connection=connection, version_table=table, render_as_batch=True
                )
                environment.run_migrations()
    except CommandError as error:
        raise StorageFailed(
            "the database does not fit this version of Doorward",
            why=str(error),
            remedy="run the newer Doorward that wrote it, or restore a backup",
        ) from error


@contextmanager
def _told() -> Iterator[None]:
    """Failures of the database, as ours."""
    from sqlalchemy.exc import OperationalError

    try:
        yield
    except OperationalError as error:
        raise StorageFailed(
            "the database does not answer, or did not take the change",
            why=str(error.orig),
            remedy="nothing was changed; check the database and try again",
        ) from error


def _set_up_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # the driver shall not begin transactions by itself
    for pragma in (
        "journal_mode=WAL",
        "foreign_keys=ON",
        f"busy_timeout={BUSY_SECONDS * 1000}",
        f"synchronous={DURABILITY}",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
