"""tests/benchmarks/gpu.py on a CPU: every part runs, a failure ends one item or part alone, page and rule read it."""

import argparse
import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mobileone_core.model.folded import gpu_timings

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def gpu(monkeypatch):
    """The command as a module."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("gpu_command", BENCHMARKS / "gpu.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    for name in ("gpu_parts", "gpu_limits"):
        sys.modules.pop(name, None)


@pytest.mark.slow
def test_all_parts_run_without_a_gpu(tmp_path, monkeypatch):
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--out", str(tmp_path), "--device", "cpu", "--minutes", "5"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    content, page = json.loads((tmp_path / "gpu.json").read_text()), (tmp_path / "gpu.md").read_text()
    statuses = {}
    for item in content["results"]:
        statuses.setdefault(item["part"], set()).add(item["status"])
    measured = {part: {"measured"} for part in ("rates", "blocks", "latency", "throughput")}
    assert statuses == {"tests": {"skipped"}, "kernels": {"passed"}, "steps": {"measured", "skipped"}, **measured}
    assert "| needs a CUDA device |" in page
    assert all(f"\n## {part}\n" in page for part in ("Tests", "Kernels", "Steps", "Throughput", "Summary"))
    monkeypatch.setattr(gpu_timings, "FOLDER", tmp_path / "timings")
    content["device"] |= {"type": "cuda", "name": "NVIDIA H200"}
    (tmp_path / "gpu.json").write_text(json.dumps(content))
    assert gpu_timings.write_timings(tmp_path / "gpu.json").name == "nvidia_h200.json"
    assert {row.k for row in gpu_timings.timings("NVIDIA H200")} == {1, 4}
    gpu_timings.timings.cache_clear()


@pytest.mark.parametrize(
    ("ending", "status", "note"),
    [
        ("os.abort()", "failed", "no output"),
        ("raise SystemExit('CUDA error: an illegal memory access')", "failed", "CUDA error: an illegal memory access"),
        ("import time; time.sleep(60)", "no time", None),
    ],
)
@pytest.mark.slow
def test_a_part_that_dies_keeps_its_results(gpu, tmp_path, monkeypatch, ending, status, note):  # noqa: PLR0917
    script = tmp_path / "part.py"
    lines = [{"item": "a", "status": "begun"}, {"item": "a", "name": "x", "status": "passed"}]
    text = "\n".join(map(json.dumps, [*lines, {"item": "b", "status": "begun"}]))
    script.write_text(
        f"import os, pathlib\npathlib.Path({str(tmp_path)!r}, 'kernels.jsonl').write_text({text!r})\n{ending}\n"
    )
    monkeypatch.setattr(gpu, "__file__", str(script))
    monkeypatch.setattr(gpu, "FINISH", 0.1)
    arguments = argparse.Namespace(out=tmp_path, device="cpu", tiny=True)
    deadline = time.time() + (2 if status == "no time" else 60)
    first, second = gpu.run_part("kernels", arguments, deadline)
    assert (first["item"], first["status"]) == ("a", "passed")
    assert (second["item"], second["status"], second.get("note")) == ("b", status, note)


def test_without_pytest_its_tests_are_skipped_by_name(gpu, monkeypatch):
    import gpu_limits
    import gpu_parts

    done = subprocess.CompletedProcess([], 1, "", "python: No module named pytest")
    monkeypatch.setattr(gpu_parts.subprocess, "run", lambda *_, **__: done)
    settings = gpu_limits.Settings("cpu", True, time.time() + 60)
    (skipped,) = gpu._attempt(next(gpu_parts.test_items(settings))[1], settings.deadline)
    assert (skipped["status"], skipped["note"]) == ("skipped", "pytest is not installed")


def test_an_item_fails_alone(gpu):
    later = time.time() + 60

    def broken():
        raise ZeroDivisionError("a kernel")

    def needs_a_package():
        import no_such_package  # noqa: F401

    def hangs():
        raise subprocess.TimeoutExpired("pytest", 1)

    results = [gpu._attempt(run, later)[0] for run in (broken, needs_a_package, hangs)]
    assert [item["status"] for item in results] == ["failed", "skipped", "no time"]
    assert results[0]["note"] == "ZeroDivisionError: a kernel"
    assert results[1]["note"] == "no_such_package is not installed"
    assert gpu._attempt(broken, time.time() - 1)[0]["status"] == "no time"


def test_the_summary_says_what_was_reached(gpu):
    step = {"part": "steps", "item": "s0 eager", "status": "measured"}
    results = [
        {**step, "name": "folded k=4", "/ branches": 0.25},
        {**step, "name": "folded k=8", "/ k=1": 1.1},
        {"part": "kernels", "item": "s0 bfloat16", "name": "dense 1x1/1", "status": "failed", "note": "{'dx': '3.0'}"},
    ]
    lines = gpu.summary(results)
    assert "failed: kernels, s0 bfloat16, dense 1x1/1: {'dx': '3.0'}" in lines
    assert "S0 eager, k = 4: folded is 4.00 times as fast as branches; 3 is the aim" in lines
    assert "S0 eager, folded: k = 8 takes 1.10 times k = 1; 1.2 is the aim" in lines
    page = gpu.page({"name": "NVIDIA H100", "type": "cuda"}, results)
    assert page.startswith("# GPU: NVIDIA H100\n")
    assert "| folded k=4 | measured | 0.25 |" in page


def test_limits_are_those_of_a_count_by_hand(gpu):
    """A depthwise and a pointwise block of 2 x 4 channels at 6 px, k = 2."""
    from gpu_limits import branches_work, compiled_work, folded_work, least_work, predicted_steps

    from mobileone_core.model.spec import BlockSpec

    depthwise, pointwise = BlockSpec(4, 4, 3, 1, 4, 2, True, False), BlockSpec(4, 8, 1, 1, 1, 2, True, False)
    x, y, shape = 2 * 4 * 36, 2 * 8 * 36, (2, 4, 6, 6)
    assert least_work(depthwise, shape, 2) == (2 * 5 * x + 12 * 2 * 4 * 9, 0, x * (3 * 9 + 13 + 25))
    weights, positions = 2 * 8 * 4, 72
    products = 3 * y * 4 + positions * (10 + 16) + 4 * weights * 4 // 2
    assert least_work(pointwise, shape, 4) == (4 * (3 * x + 2 * y) + 12 * weights, products, 0)
    assert folded_work(depthwise, shape, 2).moved == 2 * (3 * x + 4 * x + 3 * x) + 12 * 72
    assert (
        branches_work(pointwise, shape, 2).moved
        > branches_work(BlockSpec(4, 8, 1, 1, 1, 1, True, False), shape, 2).moved
    )
    # three branches and a skip: convolved; statistics, then sum, both of all four; back: the same, 3 gradients written
    fused = 3 * (x + x) + (4 + 4 + 1) * x + (4 + 1 + 4 + 1 + 4 + 1) * x + 3 * 2 * x + (3 * 2 + 4 + 1) * x
    assert compiled_work(depthwise, shape, 2).moved == 2 * fused + 12 * 72
    order = ("least ms", "folded ms", "compiled ms", "branches ms")
    assert all(sorted(order, key=row.get) == list(order) for row in predicted_steps())


def test_the_card_says_what_is_predicted(gpu):
    from gpu_limits import predicted_steps

    card = (BENCHMARKS.parents[1] / "mobileone_core" / "model" / "folded" / "README.md").read_text()
    one, four, eight = predicted_steps()[:3]
    assert (one["network"], eight["network"]) == ("s0 k=1", "s0 k=8")
    folded = f"{four['folded ms']:.1f} ms"
    assert f"| {four['branches ms']:.1f} ms / {folded} = {four['branches / folded']:.1f} |" in card
    assert f"| {four['compiled ms']:.1f} ms / {folded} = {four['compiled / folded']:.1f}, if" in card
    ratio = eight["folded ms"] / one["folded ms"]
    assert f"| {eight['folded ms']:.1f} ms / {one['folded ms']:.1f} ms = {ratio:.2f} |" in card
    devices = {row["device"]: row for row in predicted_steps() if row["network"] == "s0 k=4"}
    for name in ("branches / folded", "compiled / folded"):
        assert devices["H200"][name] == pytest.approx(devices["H100"][name], rel=0.05)
