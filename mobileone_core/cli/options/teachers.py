"""Teachers as a command line names them: NAME, or NAME=FILE with the file of its weights."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mobileone_core.errors import require
from mobileone_core.training.recipe import Teacher, weights_digest


def named_teachers(texts: Sequence[str]) -> tuple[tuple[Teacher, ...], Mapping[Teacher, Path]]:
    """Teachers and their files, each known by its content; InputError for a file that is not there."""
    files: dict[Teacher, Path] = {}
    teachers = []
    for text in texts:
        network, _, file = text.partition("=")
        path = Path(file).expanduser().absolute()
        require(not file or path.is_file(), "teachers", text, "NAME, or NAME=FILE with a file of weights")
        teachers.append(Teacher(network, weights_digest(path) if file else ""))
        if file:
            files[teachers[-1]] = path
    return tuple(teachers), files
