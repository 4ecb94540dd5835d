"""Who owns the name of a study: its shipped file, else the file whose runs are in the record."""

import hashlib
import runpy
from pathlib import Path

from mobileone_core.errors import InputError
from mobileone_core.study.declaration import Declaration
from mobileone_core.study.record.access import declaring_file
from mobileone_core.study.record.tables import DECLARATION, DECLARED_IN
from mobileone_core.study.workspace import workspace_directory

RULE = "another study of this name reports and records there; give this one a name that no other study has"


def shipped_studies(name: str) -> list[Declaration]:
    """The declarations of a name in the file of that name in the workspace's studies/."""
    shipped = workspace_directory() / "studies" / f"{name}.py"
    values = runpy.run_path(str(shipped)).values() if shipped.is_file() else ()
    return [item for item in values if isinstance(item, Declaration) and item.name == name]


def require_shipped(study: Declaration) -> bool:
    """Whether a file of the workspace's studies/ declares the study; InputError if it declares another of its name."""
    owners = shipped_studies(study.name)
    if owners and study not in owners:
        raise InputError(f"name: {study.name!r} belongs to studies/{study.name}.py; {RULE}")
    return bool(owners)


def require_name(study: Declaration, tracking: str) -> None:
    """Raise InputError if another declaration owns the study's name: a shipped one, or one whose runs are recorded.

    A file may change what it declares; the same declaration may stand in several files, such as those of two clones. A
    file without the name owns it no more. A shipped study also goes on with what another version of it has recorded.
    """
    is_shipped, (owner, digest) = require_shipped(study), declaring_file(tracking, study.name)
    is_own = is_shipped or owner in ("", study.declared_in) or digest == declared_tags(study)[DECLARATION]
    text = Path(owner).read_text(encoding="utf-8", errors="replace") if not is_own and Path(owner).is_file() else ""
    if f'"{study.name}"' in text or f"'{study.name}'" in text:
        raise InputError(f"name: {study.name!r} belongs to {owner}; {RULE}")


def declared_tags(study: Declaration) -> dict[str, str]:
    """The tags of an experiment that say who declares its study."""
    digest = hashlib.sha256(repr(study).encode()).hexdigest()[:16]
    return {DECLARED_IN: study.declared_in, DECLARATION: digest}
