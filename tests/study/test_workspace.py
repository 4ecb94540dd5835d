"""Directories that the URL of an SQLite file can name."""

from pathlib import Path

import pytest
import sqlalchemy

from mobileone_core.study.database import open_readonly, sqlite_path
from mobileone_core.study.workspace import Workspace

QUEUE, TRACKING = "postgresql://host/queue", "http://host"


@pytest.mark.parametrize("name", ["a b", "a%20b", "100%", "a%(x)s", "a?b", "a?mode=ro", "a#b", "{a}", "a&b=c;", "ä"])
def test_every_directory_can_hold_the_databases(name, tmp_path):
    workspace = Workspace.at(tmp_path / name)
    workspace.runs.mkdir()
    for url, file in ((workspace.queue, "optuna.db"), (workspace.tracking, "mlflow.db")):
        assert sqlite_path(url) == tmp_path / name / file
        with sqlalchemy.create_engine(url).begin() as connection:
            connection.exec_driver_sql("CREATE TABLE one (n)")
        with open_readonly(tmp_path / name / file) as connection:
            assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("one",)]
    assert sorted(path.name for path in workspace.runs.iterdir()) == ["mlflow.db", "optuna.db"]


def test_a_url_may_have_a_query():
    assert sqlite_path("sqlite:////tmp/a%20b.db?timeout=5") == Path("/tmp/a b.db")


def test_urls_that_are_given_stay_as_they_are():
    runs, shared = Path("/tmp/a?x"), Path("/shared")
    assert Workspace.at(runs, QUEUE, TRACKING) == Workspace(runs, QUEUE, TRACKING, runs / "checkpoints")
    assert Workspace.at(runs, QUEUE, TRACKING, shared) == Workspace(runs, QUEUE, TRACKING, shared)
