"""Models that were exported here, as the manifest beside a package tells them. No torch here."""

import json
from pathlib import Path
from typing import Any

from mobileone_core.errors import InputError, require
from mobileone_core.latency.device import KnownModel

PREFIX = "mobileone."  # of the facts that an export tells
APPLES = "Manifest.json"  # of the package's own format
MODEL, HASH = ("model", "title"), ("model_hash", "package_hash", "hash")


def read_manifest(path: Path, title: str = "") -> KnownModel:
    """The model of a manifest, with a title where the manifest has none; InputError where it is none."""
    require(path.is_file(), "manifest", str(path), "an existing file, which `mobileone export` writes beside a package")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"manifest {path.name}: not readable as JSON ({error})") from error
    require(isinstance(content, dict), "manifest", path.name, "an object, as `mobileone export` writes it")
    facts = content.get("told")
    told = facts if isinstance(facts, dict) else {}
    content = {**{name.removeprefix(PREFIX): fact for name, fact in told.items()}, **content}
    more = {name: _first(content, (name,)) for name in ("variant", "form", "precision", "input")}
    title, model_hash = _first(content, MODEL) or _title(more["variant"]) or title, _first(content, HASH)
    words = f"{' or '.join((*MODEL, 'variant'))}, and {' or '.join(HASH)}, in it"
    require(bool(title and model_hash), "manifest", path.name, words)
    return KnownModel(title, model_hash, **more)


def manifest_of(package: Path) -> Path | None:
    """The manifest of a package: in it, or beside it with .json at its end; None where there is none."""
    inside = sorted(path for path in package.glob("*.json") if path.name != APPLES)
    beside = package.with_suffix(".json")
    return next((path for path in (*inside, beside) if path.is_file()), None)


def _title(variant: str) -> str:
    return f"mobileone_{variant}" if variant else ""


def _first(content: dict[str, Any], names: tuple[str, ...]) -> str:
    return next((content[name] for name in names if isinstance(content.get(name), str) and content[name]), "")
