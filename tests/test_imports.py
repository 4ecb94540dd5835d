"""Imports run one way, and heavy packages stay in their rooms."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mobileone_core"

ALLOWED = {
    "model": set(),
    "data": set(),
    "latency": {"model"},
    "training": {"model", "data"},
    "benchmark": {"model", "data", "training", "latency"},
    "coreml": {"model", "latency", "benchmark"},
    "study": {"model", "data", "training", "latency", "benchmark"},
    "reporting": {"model", "study", "training", "latency", "benchmark"},
    "cli": {"model", "data", "training", "latency", "benchmark", "coreml", "study", "reporting"},
}
HOMES = {"optuna": "study/queue", "mlflow": "study/record", "coremltools": "coreml", "seaborn": "reporting"}


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Every module a file names, wherever in the file it does."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {item.name for item in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_rooms_know_only_those_below(path):
    room = path.relative_to(PACKAGE).parts[0]
    if room not in ALLOWED:
        return
    named = {name.split(".")[1] for name in imported(path) if name.startswith("mobileone_core.")}
    beyond = named - {"errors", "fields", "files", room} - ALLOWED[room]
    assert not beyond, f"{room} must not know {sorted(beyond)}"


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_packages_stay_in_their_rooms(path):
    place = path.relative_to(PACKAGE).as_posix()
    for package, home in HOMES.items():
        used = any(name.split(".")[0] == package for name in imported(path))
        assert not used or place.startswith(home), f"{place} imports {package}, whose home is {home}"


def test_nothing_imports_a_study():
    for path in [*sources(), *(ROOT / "studies").glob("*.py")]:
        assert not any(name.split(".")[0] == "studies" for name in imported(path)), path


@pytest.mark.parametrize("path", sorted((ROOT / "studies").glob("*.py")), ids=lambda path: path.stem)
def test_importing_a_study_is_light(path):
    """Nothing runs on import, and nothing heavy is imported."""
    code = (
        f"import runpy, sys; runpy.run_path({str(path)!r}); "
        "heavy = {'torch', 'pytorch_lightning', 'optuna', 'mlflow', 'pandas', 'seaborn', 'scipy', 'coremltools'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_files_and_functions_stay_small():
    for path in [*sources(), *(ROOT / "studies").glob("*.py")]:
        text = path.read_text()
        assert len(text.splitlines()) <= 300, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert (node.end_lineno or 0) - node.lineno < 50, f"{path}: {node.name}"
