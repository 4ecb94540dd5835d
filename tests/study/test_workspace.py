"""Places that the URL of an SQLite file can name."""

from pathlib import Path

import pytest

from mobileone_core.errors import InputError
from mobileone_core.study.workspace import Workspace

QUEUE, TRACKING = "postgresql://host/queue", "http://host"


@pytest.mark.parametrize("named", [("", ""), (QUEUE, ""), ("", TRACKING)])
def test_a_question_mark_would_end_the_path_in_a_url(named):
    with pytest.raises(InputError, match=r"^runs: '/tmp/a\?x' is not allowed; a path without '\?'"):
        Workspace.at(Path("/tmp/a?x"), *named)


def test_it_does_no_harm_where_no_file_is_named():
    assert Workspace.at(Path("/tmp/a?x"), QUEUE, TRACKING) == Workspace(Path("/tmp/a?x"), QUEUE, TRACKING)
