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

HEAVY = {"torch", "pytorch_lightning", "optuna", "mlflow", "pandas", "seaborn", "scipy", "coremltools"}
LIGHT = (  # what the command line and a plan need before anything runs
    "mobileone_core.benchmark.interleave",
    "mobileone_core.benchmark.protocol",
    "mobileone_core.benchmark.samples",
    "mobileone_core.benchmark.spec",
    "mobileone_core.benchmark.step_cell",
    "mobileone_core.cli.commands.device_import",
    "mobileone_core.cli.commands.device_run",
    "mobileone_core.cli.commands.record",
    "mobileone_core.cli.commands.run",
    "mobileone_core.cli.console",
    "mobileone_core.cli.guard",
    "mobileone_core.cli.options.evaluate",
    "mobileone_core.cli.options.export",
    "mobileone_core.cli.options.latency",
    "mobileone_core.cli.options.record",
    "mobileone_core.cli.options.study",
    "mobileone_core.cli.options.workspace",
    "mobileone_core.cli.paths",
    "mobileone_core.coreml.iphone",
    "mobileone_core.coreml.mac",
    "mobileone_core.coreml.options",
    "mobileone_core.coreml.package",
    "mobileone_core.coreml.quiet",
    "mobileone_core.coreml.xcode",
    "mobileone_core.data.catalog",
    "mobileone_core.data.download",
    "mobileone_core.data.folders",
    "mobileone_core.data.seeding",
    "mobileone_core.data.spec",
    "mobileone_core.errors",
    "mobileone_core.fields",
    "mobileone_core.files",
    "mobileone_core.latency.cell",
    "mobileone_core.latency.device",
    "mobileone_core.latency.device_files",
    "mobileone_core.latency.runtimes",
    "mobileone_core.latency.runtimes.session",
    "mobileone_core.latency.xcode_report",
    "mobileone_core.latency.zoo",
    "mobileone_core.model.cost",
    "mobileone_core.model.spec",
    "mobileone_core.reporting.devices",
    "mobileone_core.reporting.document",
    "mobileone_core.reporting.environment",
    "mobileone_core.reporting.evaluation",
    "mobileone_core.reporting.figures.growth",
    "mobileone_core.reporting.figures.labels",
    "mobileone_core.reporting.figures.ratios",
    "mobileone_core.reporting.figures.scatter",
    "mobileone_core.reporting.figures.style",
    "mobileone_core.reporting.measured.backbones",
    "mobileone_core.reporting.measured.cells",
    "mobileone_core.reporting.measured.correlation",
    "mobileone_core.reporting.measured.kind",
    "mobileone_core.reporting.measured.levels",
    "mobileone_core.reporting.measured.result",
    "mobileone_core.reporting.measured.table9",
    "mobileone_core.reporting.measured.training",
    "mobileone_core.reporting.measured.view",
    "mobileone_core.reporting.published",
    "mobileone_core.reporting.readme",
    "mobileone_core.reporting.record_csv",
    "mobileone_core.reporting.render.csv",
    "mobileone_core.reporting.render.html",
    "mobileone_core.reporting.render.latex",
    "mobileone_core.reporting.render.markdown",
    "mobileone_core.reporting.render.terminal",
    "mobileone_core.reporting.search.cells",
    "mobileone_core.study.database",
    "mobileone_core.study.declaration",
    "mobileone_core.study.environment",
    "mobileone_core.study.factor",
    "mobileone_core.study.field_text",
    "mobileone_core.study.grid",
    "mobileone_core.study.job",
    "mobileone_core.study.kinds",
    "mobileone_core.study.locks",
    "mobileone_core.study.measured",
    "mobileone_core.study.options",
    "mobileone_core.study.pareto",
    "mobileone_core.study.plan",
    "mobileone_core.study.presets",
    "mobileone_core.study.process",
    "mobileone_core.study.queue.trials",
    "mobileone_core.study.record.ui",
    "mobileone_core.study.rows",
    "mobileone_core.study.run.loop",
    "mobileone_core.study.run.progress",
    "mobileone_core.study.run.runner",
    "mobileone_core.study.run.worker_pool",
    "mobileone_core.study.search",
    "mobileone_core.study.search_plan",
    "mobileone_core.study.state",
    "mobileone_core.study.status",
    "mobileone_core.study.workspace",
    "mobileone_core.training.cell",
    "mobileone_core.training.execution",
    "mobileone_core.training.observer",
    "mobileone_core.training.recipe",
)


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
    code = f"import runpy, sys; runpy.run_path({str(path)!r}); print(sorted({HEAVY} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_importing_light_modules_imports_nothing_heavy():
    code = (
        "import importlib, sys\n"
        f"for name in {LIGHT}:\n"
        "    importlib.import_module(name)\n"
        f"    heavy = sorted({HEAVY} & set(sys.modules))\n"
        "    assert not heavy, f'{name} imports {heavy}'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_files_and_functions_stay_small():
    for path in [*sources(), *(ROOT / "studies").glob("*.py")]:
        text = path.read_text()
        assert len(text.splitlines()) <= 300, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert (node.end_lineno or 0) - node.lineno < 50, f"{path}: {node.name}"
