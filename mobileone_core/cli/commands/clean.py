"""The commands that remove something: `mobileone forget` and `clean`."""

import os
from collections.abc import Sequence

from mobileone_core.cli.guard import COMPLETE, INCOMPLETE
from mobileone_core.cli.options.workspace import Clean, Forget
from mobileone_core.errors import InputError, require, require_choice
from mobileone_core.study.database import at_work
from mobileone_core.study.leftovers import ABANDONED, Leftover, leftovers, remove
from mobileone_core.study.state import study_names, study_states


def forget(options: Forget) -> int:
    """Remove the waiting and failed cells of a setting, after two questions. Raises InputError if it is running."""
    name, workspace = options.setting, options.storage.workspace
    require_choice("setting", name, study_names(workspace))
    states = study_states(workspace, name)
    alive = [item.label for item in states if item.state == "running" and not (item.owner and item.owner.is_gone)]
    require(not alive, "setting", name, f"one that does not run; stop {', '.join(alive)} first")
    with at_work(workspace.runs, name, alone=True):  # refused before the questions, too
        pass
    removed = [item for item in states if item.state != "complete"]
    epochs = f", with {total} epochs that are done" if (total := sum(item.epoch for item in removed)) else ""
    stay = f"{len(states) - len(removed)} complete cells and all finished runs stay"
    print(f"{name}: removes {len(removed)} cells that wait or failed{epochs}; {stay}")
    again = "Type the name of the setting again: "
    if not options.yes and not (_confirmed("Remove them? [y/N] ") and _confirmed(again, (name,))):
        return INCOMPLETE
    from mobileone_core.study.run.planner import forget as forget_setting

    forget_setting(workspace, name)
    print("removed")
    return COMPLETE


def clean(options: Clean) -> int:
    """Show what is not needed on the disk, and remove it after a question."""
    workspace = options.storage.workspace
    is_shared = workspace.checkpoint_root.parent != workspace.runs
    require(not (options.abandoned and is_shared), "abandoned", True, "only in runs/checkpoints, without --checkpoints")
    items = leftovers(workspace)
    chosen = [item for item in items if options.abandoned or item.reason != ABANDONED]
    for item in items:
        print(f"{item.path}: {_size_of([item])}, {item.reason}")
    if len(chosen) < len(items):
        print("cells that are not of this queue stay: another (--queue) may have them; --abandoned removes them")
    if not chosen or options.dry_run:
        print(f"{_size_of(chosen)} can be removed" if chosen else "nothing to remove")
        return COMPLETE
    if not options.yes and not _confirmed(f"Remove {_size_of(chosen)}? [y/N] "):
        return INCOMPLETE
    for name in remove(workspace, chosen):
        print(f"{name}: a command works on it, its checkpoints stay")
    print("removed")
    return COMPLETE


def _size_of(items: Sequence[Leftover]) -> str:
    sizes = [file.lstat().st_size for item in items for file in item.files if os.path.lexists(file)]
    return f"{len(sizes)} files of {sum(sizes) / 1e6:,.1f} MB"


def _confirmed(question: str, expected: Sequence[str] = ("y", "Y", "yes")) -> bool:
    """Whether the answer to a question is expected. Raises InputError where no answer can be read."""
    try:
        is_meant = input(question).strip() in expected
    except EOFError:
        print()
        raise InputError("yes: no answer can be read here; --yes removes without a question") from None
    if not is_meant:
        print("nothing was removed")
    return is_meant
