"""The structure of the package: imports run one way, heavy packages have one room, names are unique, code is small."""

import ast
import subprocess
import sys
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mobileone_core"

ALLOWED = {
    "model": set(),
    "data": set(),
    "onnx": {"model"},
    "latency": {"model", "onnx"},
    "training": {"model", "data", "onnx"},
    "benchmark": {"model", "data", "training", "latency", "onnx"},
    "coreml": {"model", "latency", "benchmark", "onnx"},
    "study": {"model", "data", "training", "latency", "benchmark", "onnx"},
    "reporting": {"model", "study", "training", "latency", "benchmark"},
    "cli": {"model", "data", "onnx", "training", "latency", "benchmark", "coreml", "study", "reporting"},
}
COMMON = {"errors", "files", "texts", "fields"}
HOMES = {"optuna": "study/queue", "mlflow": "study/record", "coremltools": "coreml", "seaborn": "reporting/figures",
         "jinja2": "reporting"}  # fmt: skip
ENGINES = {"torch", "torchvision", "timm", "pytorch_lightning", "optuna", "mlflow", "coremltools"}
HEAVY = ENGINES | {"seaborn", "matplotlib", "pandas", "scipy", "sklearn", "onnx", "onnxruntime"}
# What --help, --plan and status import, with all that these import in turn.
ENTRY_POINTS = ("__init__", "cli/console", "cli/options/", "cli/commands/run", "study/__init__",
                "study/run/progress", "study/kinds", "study/run/runner", "model/cost", "training/cell")  # fmt: skip
# A report needs neither networks nor engines.
NO_TORCH = ("reporting/", "study/statistics", "study/effects")


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


SOURCES = sorted(PACKAGE.rglob("*.py"))
MODULES = {module_of(path): path for path in SOURCES}


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imported(path: Path) -> set[str]:
    """Every module that a file imports, at its top, in functions and under TYPE_CHECKING."""
    names = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            names |= {item.name for item in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            full = {f"{node.module}.{item.name}" for item in node.names}
            names |= {name if name in MODULES else str(node.module) for name in full}
    return names


def test_a_room_imports_only_rooms_below_it():
    wrong = []
    for path in SOURCES:
        room = path.relative_to(PACKAGE).parts[0]
        if room in ALLOWED:
            rooms = {name.split(".")[1] for name in imported(path) if name.startswith("mobileone_core.")}
            wrong += [f"{module_of(path)} imports {other}" for other in rooms - COMMON - {room} - ALLOWED[room]]
    assert not wrong


def test_every_room_has_its_imports_declared_and_a_card():
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms == set(ALLOWED)
    assert not [room for room in rooms if not (PACKAGE / room / "README.md").is_file()]


def test_no_import_circle():
    graph = {module_of(path): imported(path) & set(MODULES) - {module_of(path)} for path in SOURCES}
    while free := {module for module, targets in graph.items() if not targets & graph.keys()}:
        for module in free:
            del graph[module]
    needed = set().union(*graph.values()) if graph else set()
    assert not {module: sorted(targets & needed) for module, targets in graph.items() if module in needed}


def test_a_heavy_package_is_imported_in_its_room_alone():
    wrong = []
    for path in SOURCES:
        packages = {name.split(".")[0] for name in imported(path)}
        inside = path.relative_to(PACKAGE).as_posix()
        wrong += [f"{inside} imports {name}" for name, home in HOMES.items()
                  if name in packages and not inside.startswith(home)]  # fmt: skip
    assert not wrong


def test_nothing_imports_a_study():
    for path in [*SOURCES, *(ROOT / "studies").glob("*.py")]:
        assert not any(name.split(".")[0] == "studies" for name in imported(path)), path


def test_a_study_imports_from_the_room_study_alone():
    for path in (ROOT / "studies").glob("*.py"):
        assert imported(path) <= {"mobileone_core.study", "mobileone_core.cli"}, path


def imported_by(code: str) -> set[str]:
    """Names of the packages that a fresh interpreter has imported after running code."""
    ask = f"import sys; {code}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("prefixes", "packages"), [(ENTRY_POINTS, HEAVY), (NO_TORCH, ENGINES)], ids=["light", "report"]
)
def test_light_modules_import_nothing_heavy(prefixes, packages):
    modules = [name for name, path in MODULES.items() if path.relative_to(PACKAGE).as_posix().startswith(prefixes)]
    assert len(modules) >= len(prefixes)
    assert not imported_by(f"import {', '.join(modules)}") & packages


def test_importing_a_study_runs_nothing_and_imports_nothing_heavy():
    paths = sorted(map(str, (ROOT / "studies").glob("*.py")))
    assert not imported_by(f"import runpy; [runpy.run_path(path) for path in {paths!r}]") & HEAVY


def definitions(path: Path) -> list[ast.FunctionDef | ast.ClassDef]:
    return [node for node in tree_of(path).body if isinstance(node, ast.FunctionDef | ast.ClassDef)]


def test_no_public_class_name_is_used_twice():
    homes = defaultdict(list)
    for path in SOURCES:
        for node in definitions(path):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].append(module_of(path))
    assert not {name: modules for name, modules in homes.items() if len(modules) > 1}


def test_everything_public_has_a_docstring():
    bare = []
    for path in SOURCES:
        if not path.read_text().strip():
            continue
        bare += [] if ast.get_docstring(tree_of(path)) else [module_of(path)]
        for node in definitions(path):
            if not node.name.startswith("_") and not ast.get_docstring(node):
                bare.append(f"{module_of(path)}.{node.name}")
    assert not bare


def test_files_and_functions_stay_small():
    lengths = []
    for path in [*SOURCES, *(ROOT / "studies").glob("*.py")]:
        assert len(path.read_text().splitlines()) <= 300, path
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef):
                lengths.append((node.end_lineno or 0) - node.lineno + 1)
                assert lengths[-1] <= 50, f"{path}: {node.name}"
    assert sum(lengths) / len(lengths) <= 12


@pytest.mark.parametrize("word", ["told", "mouth", "bury", "asked", "weigh", "plainly", "mend", "apart", "beside"])
def test_identifiers_use_the_words_of_the_field(word):
    """Words of a former private dialect, each of which had many meanings."""
    used = []
    for path in SOURCES:
        for node in ast.walk(tree_of(path)):
            name = getattr(node, "name", None) or getattr(node, "id", None) or getattr(node, "attr", None)
            name = name or getattr(node, "arg", None)
            if isinstance(name, str) and word in name.lower().split("_"):
                used.append(f"{module_of(path)}: {name}")
    assert not used
