"""SQLite files read as they are: nothing is created, changed or locked for long. No optuna and no mlflow here.

A process that opens such a file itself and closes it again loses every lock that its SQLite has on it: only SQLite, or
another process, may look into it.
"""

import contextlib
import importlib.util
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mobileone_core.errors import InputError

PREFIX = "sqlite:///"
LOCKED = 120.0  # seconds that a locked database is waited for


def sqlite_path(url: str) -> Path | None:
    """The file behind a sqlite:/// URL; None for any other database."""
    return Path(url.removeprefix(PREFIX)).absolute() if url.startswith(PREFIX) else None


def is_there(path: Path) -> bool:
    """Whether a database was ever written to a file; an empty file holds none."""
    return path.exists() and path.stat().st_size > 0


def require_database(path: Path) -> None:
    """InputError where a file is no SQLite database, or cannot be read."""
    with reading(path):
        pass


@contextlib.contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A read-only connection; InputError where the file is no SQLite database, or cannot be read."""
    with contextlib.ExitStack() as stack:
        try:
            connection = stack.enter_context(contextlib.closing(_connect(path, "ro")))
            _touch(connection)
        except sqlite3.DatabaseError as error:
            code = error.sqlite_errorcode & 0xFF
            if code == sqlite3.SQLITE_NOTADB:
                raise InputError(f"{path}: not a database; move it away or name another") from error
            if code == sqlite3.SQLITE_BUSY or not _journal(path).exists():
                raise InputError(f"{path}: {error}") from error
            connection = stack.enter_context(_rolled_back(path))
        yield connection


def check_revision(connection: sqlite3.Connection, path: Path, package: str, folder: str) -> None:
    """InputError unless the installed package knows the schema that a database was written with."""
    is_ours = has(connection, "alembic_version")
    found = connection.execute("SELECT version_num FROM alembic_version").fetchone() if is_ours else None
    spec = importlib.util.find_spec(package)
    places = spec.submodule_search_locations if spec else None
    known = [item.stem for place in places or () for item in (Path(place) / folder).glob("*.py")]
    if found is None:
        raise InputError(f"{path}: not a database of {package}; move it away or name another")
    if not any(name.startswith(found[0]) for name in known):
        raise InputError(f"{path}: {package} schema {found[0]!r} is newer than the installed {package}; update it")


def has(connection: sqlite3.Connection, table: str) -> bool:
    """Whether a table is there."""
    query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    return connection.execute(query, (table,)).fetchone() is not None


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.as_uri()}?mode={mode}", uri=True, timeout=LOCKED)


def _touch(connection: sqlite3.Connection) -> None:
    connection.execute("SELECT count(*) FROM sqlite_master").fetchone()


def _journal(path: Path) -> Path:
    return path.with_name(f"{path.name}-journal")


@contextlib.contextmanager
def _rolled_back(path: Path) -> Iterator[sqlite3.Connection]:
    """A copy without the transaction that a killed writer left half done: undoing it in place would be writing."""
    with tempfile.TemporaryDirectory() as directory:
        copy = ["cp", str(path), str(_journal(path)), directory]
        is_whole = subprocess.run(copy, check=False, stderr=subprocess.DEVNULL).returncode == 0
        place, mode = (Path(directory) / path.name, "rw") if is_whole else (path, "ro")  # undone by another meanwhile
        with contextlib.closing(_connect(place, mode)) as connection:
            _touch(connection)
            yield connection
