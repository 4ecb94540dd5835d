"""Finds and removes files that finished or abandoned cells left; nothing that a running cell may need."""

import contextlib
import os
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from mobileone_core.errors import InputError
from mobileone_core.files import user_cache
from mobileone_core.study.database import at_work, planning
from mobileone_core.study.state import CellState, study_states
from mobileone_core.study.workspace import Workspace

FINISHED, ABANDONED = "checkpoint of a complete cell", "checkpoint of no cell of this queue"
HALF_WRITTEN, UNUSED = "half-written file", "compiled code, unused for 30 days"
TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}")  # as files.write_whole names them
SETTLED = 60.0  # seconds after a cell ended in which its worker may still write its checkpoint
LIMITS = {HALF_WRITTEN: 3600.0, UNUSED: 30 * 86400.0}  # seconds; no file takes an hour to be written


class Leftover(NamedTuple):
    """A file, or a cell's directory with the files in it, and why it is not needed."""

    path: Path
    reason: str
    files: Sequence[Path]


def leftovers(workspace: Workspace) -> list[Leftover]:
    """Everything that is not needed in a workspace and in the cache of compiled code.

    The files of a cell are listed before its state is read: a cell that is claimed meanwhile counts as running, and
    what a worker writes later is not listed.
    """
    items = list(_old(workspace))
    for folder in _directories(workspace.checkpoint_root):
        files = {cell: _files(cell) for cell in _directories(folder)}
        state_of = {item.key: item for item in study_states(workspace, folder.name)}
        for cell, listed in files.items():
            state = state_of.get(cell.name)
            if state is None or (state.state == "complete" and _written_later(state, listed)):
                items.append(Leftover(cell, ABANDONED, listed))
            elif state.state == "complete":
                items.append(Leftover(cell, FINISHED, listed))
            elif state.state != "running":
                items += [Leftover(file, HALF_WRITTEN, [file]) for file in listed if TEMPORARY.fullmatch(file.name)]
    return items


def remove(workspace: Workspace, chosen: Sequence[Leftover]) -> list[str]:
    """Remove what is still a leftover. Returns the names of the queues left alone, on which a command works.

    Planners wait meanwhile, and so do commands that begin: no cell is queued between the look and the removal.
    """
    paths, busy = {item.path for item in chosen}, list[Path]()
    with planning(workspace.runs, workspace.queue), contextlib.ExitStack() as stack:
        for folder in _directories(workspace.checkpoint_root):
            try:
                stack.enter_context(at_work(workspace.runs, folder.name, alone=True))
            except InputError:
                busy.append(folder)
        for item in leftovers(workspace):
            if item.path not in paths or any(folder in item.path.parents for folder in busy):
                continue
            for file in item.files:
                file.unlink(missing_ok=True)
            for directory, _, _ in os.walk(item.path, topdown=False):
                with contextlib.suppress(OSError):  # another process has written to it
                    Path(directory).rmdir()
    return [folder.name for folder in busy]


def _old(workspace: Workspace) -> Iterator[Leftover]:
    """Half-written files of reports, and of compiled code, that nobody wrote or read for long; unused libraries."""
    cache = user_cache()
    for path in [*_files(workspace.runs / "reports"), *(_files(cache) if cache else ())]:
        reason = HALF_WRITTEN if TEMPORARY.fullmatch(path.name) else UNUSED if path.suffix == ".so" else ""
        with contextlib.suppress(OSError):
            state = path.lstat()
            if reason and time.time() - max(state.st_mtime, state.st_atime) > LIMITS[reason]:
                yield Leftover(path, reason, [path])


def _written_later(cell: CellState, files: Sequence[Path]) -> bool:
    """Whether a complete cell's files were written after it ended: those of the same cell in another queue."""
    times = [file.lstat().st_mtime for file in files if os.path.lexists(file)]
    return cell.ended is not None and max(times, default=0.0) > cell.ended.timestamp() + SETTLED


def _directories(directory: Path) -> list[Path]:
    """Directories in a directory, without links; none where it does not exist."""
    return sorted(path for path in directory.glob("*") if path.is_dir() and not path.is_symlink())


def _files(directory: Path) -> list[Path]:
    """Files below a directory; links are not followed."""
    return [Path(folder, name) for folder, _, names in os.walk(directory) for name in names]
