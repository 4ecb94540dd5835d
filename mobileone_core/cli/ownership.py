"""Who owns the name of a study: its shipped file, else the file whose runs are in the record."""

import runpy
import sys
from pathlib import Path

from mobileone_core.errors import InputError
from mobileone_core.study.declaration import Declaration
from mobileone_core.study.record.access import declaring_file
from mobileone_core.study.workspace import workspace_directory

RULE = "another study of this name reports and records there; give this one a name that no other study has"


def script_of(study: Declaration) -> str:
    """Path of the running script if it names the study, else an empty text, as in a notebook."""
    script = getattr(sys.modules["__main__"], "__file__", None)
    return str(Path(script).resolve()) if script and _names(Path(script), study.name) else ""


def require_shipped(study: Declaration) -> None:
    """Raise InputError if a file of the workspace's studies/ has the study's name and declares another study."""
    shipped = workspace_directory() / "studies" / f"{study.name}.py"
    if shipped.is_file() and runpy.run_path(str(shipped)).get("STUDY") != study:
        raise InputError(f"name: {study.name!r} belongs to studies/{shipped.name}; {RULE}")


def require_name(study: Declaration, tracking: str) -> None:
    """Raise InputError if another file owns the study's name: a shipped one, or one whose runs are in the record."""
    require_shipped(study)
    script, owner = script_of(study), declaring_file(tracking, study.name)
    if script and owner not in ("", script) and _names(Path(owner), study.name):
        raise InputError(f"name: {study.name!r} belongs to {owner}; {RULE}")


def _names(file: Path, name: str) -> bool:
    """Whether a file exists and holds the name as a text of Python."""
    text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
    return f'"{name}"' in text or f"'{name}'" in text
