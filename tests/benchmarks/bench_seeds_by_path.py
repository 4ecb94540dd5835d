"""Does it matter to a trained network by which path it was trained? The embedded default, seed by seed.

    python tests/benchmarks/bench_seeds_by_path.py [--epochs 20] [--seeds 10] [--k 4] [--workers 2] [--measured FILE]

Every seed is trained by the branches and folded: the same split, order, augmentation and first weights. Rounding
parts the two within a few hundred steps, so what is left is the luck of a training. How much that is, a control
tells: the branches again, from first weights that are a rounding away. For every measure: the mean difference from
the branches with its 95 % interval, paired t and Wilcoxon, and the p value of "further apart than the margin" (two
one-sided t tests). Cells that are in --measured already are not trained again.
"""

import argparse
import json
import multiprocessing
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

import numpy as np
from scipy import stats

from mobileone_core.data.spec import DataSpec
from mobileone_core.study.presets import preset_cell
from mobileone_core.study.statistics import paired
from mobileone_core.training.execution import Execution
from mobileone_core.training.observer import NullObserver

if TYPE_CHECKING:
    from torch import nn

PATHS = ("branches", "folded", "control")
MEASURES = {"test/top1": 0.01, "val/top1": 0.01, "test/loss": 0.01, "train/loss": 0.01}  # with the margin of each
Cell = tuple[str, int, int, int]  # path, seed, k, epochs


def fit(cell: Cell) -> tuple[Cell, dict[str, float]]:
    """Train one cell; what it measured at its end."""
    from mobileone_core.training.run import train_cell
    from mobileone_core.training.tasks import classification

    path, seed, k, epochs = cell
    spec = replace(preset_cell("tiny", DataSpec(), "digits", {"model.k": k, "recipe.epochs": epochs}), seed=seed)
    execution = Execution("cpu", blocks="folded" if path == "folded" else "branches")
    build = nudged if path == "control" else classification.build_model
    with tempfile.TemporaryDirectory() as folder, patch.object(classification, "build_model", build):
        result = train_cell(spec, execution=execution, data_root=None, directory=Path(folder), observer=NullObserver())
    return cell, {name: result.metrics[name] for name in (*MEASURES, "time/train_seconds")}


def nudged(*arguments: object) -> "nn.Module":
    """A network whose first weights are scaled by one rounding up."""
    import torch

    from mobileone_core.model.network import build_model

    network = build_model(*arguments)
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(1 + torch.finfo(weight.dtype).eps)
    return network


def measured(file: Path | None) -> dict[Cell, dict[str, float]]:
    lines = file.read_text().splitlines() if file is not None and file.exists() else []
    rows = map(json.loads, lines)
    return {tuple(row["cell"]): row["metrics"] for row in rows}


def train(cells: list[Cell], workers: int, file: Path | None) -> dict[Cell, dict[str, float]]:
    """All cells, those of the file as they stand there; others are appended to it as they end."""
    found = measured(file)
    left = [cell for cell in cells if cell not in found]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mobileone_core.training.run"])
    with context.Pool(workers) as pool:
        for cell, metrics in pool.imap_unordered(fit, left, chunksize=1):
            found[cell] = metrics
            print(*cell, {name: round(value, 4) for name, value in metrics.items()}, flush=True)
            if file is not None:
                with file.open("a") as stream:
                    stream.write(json.dumps({"cell": cell, "metrics": metrics}) + "\n")
    return found


def beyond(differences: np.ndarray, margin: float) -> float:
    """The larger p of two one-sided t tests: small where the mean difference lies within the margin."""
    if not differences.std():
        return float(abs(differences.mean()) >= margin)
    below = stats.ttest_1samp(differences, -margin, alternative="greater").pvalue
    above = stats.ttest_1samp(differences, margin, alternative="less").pvalue
    return float(max(below, above))


def row(values: Mapping[int, float], baseline: Mapping[int, float], margin: float) -> str:
    pair = paired(values, baseline)
    differences = np.array([values[seed] - baseline[seed] for seed in sorted(values)])
    wilcoxon = stats.wilcoxon(differences).pvalue if differences.any() else 1.0
    mean, spread = np.mean(list(values.values())), differences.std(ddof=1)
    t = 1.0 if pair.p is None else pair.p
    return (
        f"{mean:>8.4f} {pair.difference:>+9.4f} [{pair.low:+.4f}, {pair.high:+.4f}] {spread:>8.4f}"
        f" {t:>7.2f} {wilcoxon:>8.2f} {beyond(differences, margin):>9.4f}   {pair.wins}-{pair.ties}"
    )


def report(found: Mapping[Cell, Mapping[str, float]], arguments: argparse.Namespace) -> None:
    print(f"\n{arguments.seeds} seeds, k = {arguments.k}, {arguments.epochs} epochs; differences from the branches")
    print(
        f"{'':<20} {'mean':>8} {'apart by':>9} {'95 %':^18} {'their sd':>8} {'paired t':>7} {'Wilcoxon':>8}"
        f" {'p(margin)':>9}   higher-same"
    )
    for name, margin in MEASURES.items():
        by_path = {
            path: {seed: found[path, seed, arguments.k, arguments.epochs][name] for seed in range(arguments.seeds)}
            for path in PATHS
        }
        baseline = by_path.pop("branches")
        print(f"{name:<20} {np.mean(list(baseline.values())):>8.4f}   of the branches; margin {margin}")
        for path, values in by_path.items():
            print(f"  {path:<18} {row(values, baseline, margin)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--k", type=int, default=4)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--measured", type=Path, default=None, help="a file of one JSON line a cell")
    arguments = parser.parse_args()
    cells = [(path, seed, arguments.k, arguments.epochs) for seed in range(arguments.seeds) for path in PATHS]
    report(train(cells, arguments.workers, arguments.measured), arguments)


if __name__ == "__main__":
    main()
