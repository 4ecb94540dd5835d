"""Everything that only a GPU can tell, in one command and ten minutes: what is right, how fast it is, what is open.

    python tests/benchmarks/gpu.py [--out DIR] [--minutes 10] [--parts steps blocks ...] [--device cpu --tiny]

It writes DIR/gpu.json and DIR/gpu.md, and needs torch alone for the model room: a part or test whose packages are
missing is skipped by name. Each part runs in a process of its own, so that an error of the device ends that part alone.
The parts, most valuable first; what is left of the minutes is shared by those that are left:

    tests        every test marked gpu
    kernels      every Triton kernel against float64, folded blocks against branches: S0 to S4, k 1 to 8, all dtypes
    rates        the memory's bandwidth and the rates of matrix products
    steps        time and memory of a training step of S0 and S1: branches, folded, timm; eager and compiled
    blocks       every block of S0, branches against folded, beside its limit: the timings by which auto decides
    latency      the runtimes cuda and cuda_graph on S0 to S4
    throughput   training on synthetic ImageNet-sized batches

The exit status is 1 if anything failed. Without a CUDA device, or with --device cpu --tiny, all parts run on tiny
networks with Triton's interpreter: that tests this command (PyTorch 2.11's needs NumPy below 2.4). auto folds blocks
on this family of GPUs after

    python -m mobileone_core.model.folded.rule --from DIR/gpu.json
"""

import argparse
import datetime
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))  # the package need not be installed

PARTS = {"tests": 4, "kernels": 5, "rates": 1, "steps": 6, "blocks": 5, "latency": 2, "throughput": 2}  # shares of time
LEAST, FINISH = 20, 5  # seconds that a part has at least, and may go on after its share before it is killed
HIDDEN = ("part", "item", "status", "timing", "name")


def run_parts(arguments: argparse.Namespace, results: list[dict[str, Any]], finished: Callable[[], None]) -> None:
    """Run every part in a process of its own, within its share of the time that is left."""
    end = time.time() + 60 * arguments.minutes
    parts = [name for name in PARTS if name in arguments.parts]
    for index, part in enumerate(parts):
        share = PARTS[part] / sum(PARTS[name] for name in parts[index:])
        deadline = time.time() + max(LEAST, share * (end - time.time()))
        print(f"{part}: up to {deadline - time.time():.0f} s", flush=True)
        found = list(run_part(part, arguments, deadline))
        results += found
        for status, count in Counter(item["status"] for item in found).items():
            print(f"    {count} {status}", flush=True)
        finished()


def run_part(part: str, arguments: argparse.Namespace, deadline: float) -> Iterator[dict[str, Any]]:
    """The results of a part, also of one that crashes or hangs."""
    lines = arguments.out / f"{part}.jsonl"
    lines.unlink(missing_ok=True)
    command = [sys.executable, __file__, "--part", part, "--deadline", str(deadline), "--out", str(arguments.out)]
    command += ["--device", arguments.device, *["--tiny"] * arguments.tiny]
    interprets = {"TRITON_INTERPRET": "1"} if arguments.device == "cpu" and part in ("kernels", "tests") else {}
    with (arguments.out / f"{part}.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | interprets, start_new_session=True)
        try:
            process.wait(deadline - time.time() + FINISH)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    read = [json.loads(line) for line in lines.read_text().splitlines()] if lines.exists() else []
    begun = [item["item"] for item in read if item["status"] == "begun"]
    done = {item["item"] for item in read if item["status"] != "begun"}
    yield from ({"part": part, **item} for item in read if item["status"] != "begun")
    if process.returncode != 0:
        killed = process.returncode == -signal.SIGKILL and time.time() > deadline
        text = (arguments.out / f"{part}.log").read_text().strip().splitlines()[-1:] or ["no output"]
        last = next((name for name in reversed(begun) if name not in done), "the rest")
        status = {"status": "no time"} if killed else {"status": "failed", "note": text[0][:300]}
        yield {"part": part, "item": last, "name": "process", **status}
    else:
        lines.unlink(missing_ok=True)


def run_items(part: str, arguments: argparse.Namespace) -> None:
    """In a part's process: run its items one after another until the deadline, and write each result as a line."""
    import gpu_limits
    import gpu_parts

    settings = gpu_limits.Settings(arguments.device, arguments.tiny, arguments.deadline)
    items = {
        "tests": gpu_parts.test_items,
        "kernels": gpu_parts.kernel_items,
        "rates": gpu_limits.rates_items,
        "steps": gpu_parts.step_items,
        "blocks": gpu_limits.block_items,
        "latency": gpu_parts.latency_items,
        "throughput": gpu_parts.throughput_items,
    }[part]
    with (arguments.out / f"{part}.jsonl").open("w") as lines:

        def write(item: str, result: dict[str, Any]) -> None:
            lines.write(json.dumps({"item": item, **result}) + "\n")
            lines.flush()

        for item, run in items(settings):
            write(item, {"status": "begun"})
            for result in _attempt(run, settings.deadline):
                write(item, result)


def _attempt(run: Callable[[], list[dict[str, Any]]], deadline: float) -> list[dict[str, Any]]:
    """An item's results; one that says so where it fails, cannot run here or has no time."""
    from gpu_limits import Skipped

    if time.time() > deadline:
        return [{"name": "all", "status": "no time"}]
    try:
        return run()
    except subprocess.TimeoutExpired:
        return [{"name": "all", "status": "no time"}]
    except ImportError as error:
        return [{"name": "all", "status": "skipped", "note": f"{error.name} is not installed"}]
    except Skipped as error:
        return [{"name": "all", "status": "skipped", "note": str(error)}]
    except Exception as error:
        return [{"name": "all", "status": "failed", "note": f"{type(error).__name__}: {error}"[:300]}]


def describe_device(arguments: argparse.Namespace) -> dict[str, str]:
    """The device, its driver, versions, and the command."""
    import torch

    on_gpu = arguments.device == "cuda"
    name = torch.cuda.get_device_name() if on_gpu else platform.processor() or platform.machine()
    driver = Path("/proc/driver/nvidia/version")
    versions = {}
    for package in ("torch", "triton", "timm", "pytorch-lightning", "mlflow", "numpy"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "name": name,
        "type": arguments.device,
        "capability": ".".join(map(str, torch.cuda.get_device_capability())) if on_gpu else "",
        "driver": driver.read_text().splitlines()[0] if driver.exists() else "",
        "cuda": str(torch.version.cuda),
        "cudnn": str(torch.backends.cudnn.version()) if on_gpu else "",
        "python": platform.python_version(),
        **versions,
        "date": datetime.date.today().isoformat(),
        "command": " ".join(["python tests/benchmarks/gpu.py", *sys.argv[1:]]),
    }


def page(device: dict[str, str], results: Sequence[dict[str, Any]]) -> str:
    """Everything as one page of Markdown."""
    from gpu_limits import predicted_kinds, predicted_steps

    heading = "# GPU" if device["type"] == "cuda" else "# Tiny networks on a CPU: a test of the command, no measurement"
    lines = [f"{heading}: {device['name']}", "", *table([{"": key, " ": value} for key, value in device.items()])]
    lines += ["", "## Summary", "", *(f"- {line}" for line in summary(results))]
    for part in dict.fromkeys(item["part"] for item in results):
        lines += ["", f"## {part.capitalize()}"]
        mine = [item for item in results if item["part"] == part]
        for item in dict.fromkeys(row["item"] for row in mine):
            rows = [row for row in mine if row["item"] == item]
            shown = [{"": row["name"], "status": row["status"]} | _without(row, HIDDEN) for row in rows]
            lines += ["", f"**{item}**", "", *table(shown)]
    lines += ["", "## What bytes and operations predict", ""]
    lines += [
        "Batch 256 at 224 px in half precision, by the data sheets of the SXM modules; launches are left out.",
        "",
    ]
    lines += [
        *table(predicted_steps()),
        "",
        "Blocks of S0 with k = 4 on an H100, by kind:",
        "",
        *table(predicted_kinds()),
    ]
    return "\n".join(lines) + "\n"


def summary(results: Sequence[dict[str, Any]]) -> list[str]:
    """Lists what passed, failed, was skipped or not begun for lack of time; and the ratios to aim at."""
    lines = [
        f"{status}: {', '.join(f'{count} {part}' for part, count in counted.items())}"
        for status in ("passed", "measured")
        if (counted := Counter(item["part"] for item in results if item["status"] == status))
    ]
    for status in ("failed", "skipped", "no time"):
        names = [f"{row['part']}, {row['item']}, {row['name']}" for row in results if row["status"] == status]
        notes = [f": {row['note']}" if row.get("note") else "" for row in results if row["status"] == status]
        lines += [f"{status}: {name}{note}".replace("\n", " ") for name, note in zip(names, notes, strict=True)]
    steps = {(row["item"], row["name"]): row for row in results if row["part"] == "steps"}
    for mode, factor in (("eager", 3), ("compiled", 2)):
        if ratio := steps.get((f"s0 {mode}", "folded k=4"), {}).get("/ branches"):
            lines.append(f"S0 {mode}, k = 4: folded is {1 / ratio:.2f} times as fast as branches; {factor} is the aim")
    if ratio := steps.get(("s0 eager", "folded k=8"), {}).get("/ k=1"):
        lines.append(f"S0 eager, folded: k = 8 takes {ratio:.2f} times k = 1; 1.2 is the aim")
    return lines


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Rows with any keys as a table of Markdown."""
    heads = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[_text(row.get(head, "")) for head in heads] for row in rows]
    return [f"| {' | '.join(line)} |" for line in [heads, ["---"] * len(heads), *cells]]


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", r"\|").replace("\n", " ")


def _without(row: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in names}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu"), help="where gpu.json and gpu.md are written")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--device", choices=["cuda", "cpu"])
    parser.add_argument("--tiny", action="store_true", help="tiny networks and batches")
    parser.add_argument("--part", choices=list(PARTS), help=argparse.SUPPRESS)
    parser.add_argument("--deadline", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        run_items(arguments.part, arguments)
        return 0
    import torch

    arguments.device = arguments.device or ("cuda" if torch.cuda.is_available() else "cpu")
    arguments.tiny = arguments.tiny or arguments.device == "cpu"
    arguments.out = arguments.out.absolute()
    arguments.out.mkdir(parents=True, exist_ok=True)
    device, results = describe_device(arguments), []
    print(f"{device['name']}, torch {device['torch']}")

    def write() -> None:
        content = {"device": device, "results": results}
        (arguments.out / "gpu.json").write_text(json.dumps(content, indent=1) + "\n")
        (arguments.out / "gpu.md").write_text(page(device, results))

    run_parts(arguments, results, write)
    print("\n".join([*summary(results), f"{arguments.out / 'gpu.md'}"]))
    return int(any(item["status"] == "failed" for item in results))


if __name__ == "__main__":
    sys.exit(main())
