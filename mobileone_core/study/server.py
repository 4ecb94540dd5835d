"""Databases that are servers: whether one holds a queue, one planner at a time, refusals in one line."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy

from mobileone_core.errors import InputError
from mobileone_core.study.job import one_line
from mobileone_core.study.workspace import shown

PLANNER = 0x6D6F62696C65  # the number of the lock that a planner holds
SERVER: Mapping[str, Any] = {"pool_pre_ping": True}  # an epoch is longer than many a firewall keeps a connection


def refusal(what: str, url: str, error: BaseException) -> InputError:
    """What a database says, in one line that names it without its password."""
    reason = one_line(error).replace(url, shown(url))
    driver = "; install the driver of this database" if isinstance(error, ImportError) else ""
    return InputError(f"{what} {shown(url)}: {reason}{driver}")


def has_table(what: str, url: str, table: str) -> bool:
    """Whether a table is there; creates nothing. InputError, which says what the database is to hold."""
    try:
        engine = sqlalchemy.create_engine(url)
        try:
            return sqlalchemy.inspect(engine).has_table(table)
        finally:
            engine.dispose()
    except (ImportError, sqlalchemy.exc.SQLAlchemyError) as error:
        raise refusal(what, url, error) from error


@contextlib.contextmanager
def planning_alone(url: str) -> Iterator[None]:
    """On PostgreSQL keep planners of other machines waiting; the lock falls with the connection that holds it.

    Raises what SQLAlchemy raises where the server cannot be used.
    """
    if not url.startswith("postgresql"):
        yield
        return
    engine = sqlalchemy.create_engine(url)
    try:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sqlalchemy.select(sqlalchemy.func.pg_advisory_lock(PLANNER)))
            yield
    finally:
        engine.dispose()
