"""Databases of a workspace: SQLite files read without changing them, servers, and their errors as one line.

A process that opens an SQLite file itself and closes it again loses every lock that its SQLite holds on the file. Only
SQLite, or another process, may read the file.
"""

import contextlib
import fcntl
import importlib.util
import os
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote

from mobileone_core.errors import InputError
from mobileone_core.study.workspace import SQLITE, one_line, redacted, sqlite_url

ADVISORY_KEY = 0x6D6F62696C65  # key of the planner's advisory lock in PostgreSQL
LOCK_TIMEOUT = 120.0  # seconds to wait for a locked database


def sqlite_path(url: str) -> Path | None:
    """Path of a sqlite:/// URL; None for any other database."""
    return Path(unquote(url.removeprefix(SQLITE).partition("?")[0])).absolute() if url.startswith(SQLITE) else None


def database_exists(path: Path) -> bool:
    """Whether a database was written to a file. An empty file holds none."""
    return path.exists() and path.stat().st_size > 0


def create_file(url: str, create: Callable[[str], None]) -> None:
    """Create an SQLite file unless it exists, or url names another database.

    create(url) writes it under another name; it is renamed when complete, so that no process sees a half-made one. A
    missing directory is created.
    """
    path = sqlite_path(url)
    if path is not None and not database_exists(path):
        unfinished = path.with_name(f".{path.name}.{os.getpid()}.new")
        path.parent.mkdir(parents=True, exist_ok=True)
        create(sqlite_url(unfinished))
        unfinished.replace(path)


def require_database(path: Path) -> None:
    """Raise InputError if a record's file was not written yet or is not a readable SQLite database."""
    if not database_exists(path):
        raise InputError(f"{path}: no record here yet; run a study first")
    with open_readonly(path):
        pass


@contextlib.contextmanager
def open_readonly(path: Path) -> Iterator[sqlite3.Connection]:
    """Open an SQLite file read-only. Raises InputError if the file is not a readable SQLite database.

    If a killed writer left a transaction half done, the connection is to a temporary copy, where SQLite rolls it back:
    in place that would write.
    """
    with contextlib.ExitStack() as stack:
        try:
            connection = stack.enter_context(_connected(path, "ro"))
        except sqlite3.DatabaseError as error:
            code = error.sqlite_errorcode & 0xFF
            if code == sqlite3.SQLITE_NOTADB:
                raise InputError(f"{path}: not a database; move it away or name another") from error
            journal = path.with_name(f"{path.name}-journal")
            if code == sqlite3.SQLITE_BUSY or not journal.exists():
                raise InputError(f"{path}: {error}") from error
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            copy = ["cp", str(path), str(journal), folder]
            is_copied = subprocess.run(copy, check=False, stderr=subprocess.DEVNULL).returncode == 0
            # Otherwise the journal is gone: another process has rolled it back meanwhile.
            where = (Path(folder, path.name), "rw") if is_copied else (path, "ro")
            connection = stack.enter_context(_connected(*where))
        yield connection


@contextlib.contextmanager
def open_tables(path: Path, package: str, folder: str) -> Iterator[sqlite3.Connection]:
    """Open the SQLite file of a package read-only; folder: the package's schema revisions.

    Raises InputError if it is no database of the package, or of a schema that the installed package does not have.
    """
    with open_readonly(path) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name = 'alembic_version'")
        stored = connection.execute("SELECT version_num FROM alembic_version").fetchone() if tables.fetchone() else None
        if stored is None:
            raise InputError(f"{path}: not a database of {package}; move it away or name another")
        spec = importlib.util.find_spec(package)
        roots = (spec.submodule_search_locations if spec else None) or ()
        if not any(item.stem.startswith(stored[0]) for root in roots for item in (Path(root) / folder).glob("*.py")):
            raise InputError(f"{path}: {package} schema {stored[0]!r} is newer than the installed {package}; update it")
        yield connection


def database_error(kind: str, url: str, error: BaseException) -> InputError:
    """An InputError with a database's own message in one line; kind ("queue" or "record") says what it holds."""
    reason = one_line(error).replace(url, redacted(url))
    if "failed with exception" in reason:  # MLflow's client, after all its tries
        reason = "no MLflow server answers"
    driver = "; install the driver of this database" if isinstance(error, ImportError) else ""
    return InputError(f"{kind} {redacted(url)}: {reason}{driver}")


def has_table(kind: str, url: str, table: str) -> bool:
    """Whether a database server holds a table; creates nothing. Raises InputError if the server cannot be reached."""
    import sqlalchemy

    try:
        return sqlalchemy.inspect(sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)).has_table(table)
    except (ImportError, sqlalchemy.exc.SQLAlchemyError) as error:
        raise database_error(kind, url, error) from error


@contextlib.contextmanager
def planning(runs: Path, url: str) -> Iterator[None]:
    """Hold the planner's locks: a file in the runs directory, then an advisory lock of the database at url.

    Half-made database files of planners that were killed are deleted. Raises InputError if the runs directory cannot be
    written, and SQLAlchemy's errors if the database server cannot be used.
    """
    try:
        runs.mkdir(parents=True, exist_ok=True)
        lock = (runs / ".planner.lock").open("a")
    except OSError as error:
        raise InputError(f"runs: cannot write to {str(runs)!r} ({error.strerror})") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for unfinished in runs.glob(".*.new*"):
            unfinished.unlink(missing_ok=True)
        with advisory_lock(url):
            yield


@contextlib.contextmanager
def at_work(runs: Path, queue: str, *, alone: bool = False) -> Iterator[None]:
    """Hold a queue's lock in the runs directory, shared by the commands that work on it.

    With alone, raise InputError if any other process holds it.
    """
    runs.mkdir(parents=True, exist_ok=True)
    with (runs / f".{queue}.queue.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB if alone else fcntl.LOCK_SH)
        except BlockingIOError:
            raise InputError.of("setting", queue, "one that no command works on; stop it first") from None
        yield


@contextlib.contextmanager
def advisory_lock(url: str) -> Iterator[None]:
    """On PostgreSQL, make planners of other machines wait; no lock on any other database."""
    if not url.startswith("postgresql"):
        yield
        return
    import sqlalchemy

    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sqlalchemy.select(sqlalchemy.func.pg_advisory_lock(ADVISORY_KEY)))
        yield


@contextlib.contextmanager
def _connected(path: Path, mode: str) -> Iterator[sqlite3.Connection]:
    url = f"{path.as_uri()}?mode={mode}"
    with contextlib.closing(sqlite3.connect(url, uri=True, timeout=LOCK_TIMEOUT)) as connection:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        yield connection
