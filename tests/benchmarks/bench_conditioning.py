"""Rounding of the folded path: errors against float64 truth, as curves against conditioning and on recorded blocks.

    python tests/benchmarks/bench_conditioning.py [--figure FILE] [--repeats 3]
    python tests/benchmarks/bench_conditioning.py --recorded [--epochs 12] [--seeds 1]

Curves: random blocks of each kind, by branches and folded, in float32 and under bfloat16 autocast (CPU). One draws
the inputs with a mean of so many spreads, one as images of which neighbouring pixels (for pointwise blocks: channels)
correlate so much, one with a single pixel so many times as far from zero as the others. Errors are relative, in norms,
of output, gradient of the input, of the parameters, and running variance; the truth is the branches in float64 on the
same numbers. Recorded: every block of the embedded
default at the start, in the middle and at the end of a training, and of S0 at 64 px within its first epoch.
"""

import argparse
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from mobileone_core.data.spec import DataSpec
from mobileone_core.model.spec import BlockSpec

sys.path.insert(0, str(Path(__file__).parents[1] / "model" / "folded"))

KINDS = {
    "stem": BlockSpec(3, 16, 3, 2, 1, 4, True, False),
    "depthwise": BlockSpec(16, 16, 3, 1, 16, 4, True, False),
    "depthwise, stride 2": BlockSpec(16, 16, 3, 2, 16, 4, True, False),
    "pointwise": BlockSpec(16, 16, 1, 1, 1, 4, True, False),
}
OFFSETS = (0.0, 1.0, 10.0, 100.0, 1e3, 1e4)
CORRELATIONS = (0.0, 0.9, 0.99, 0.999, 0.9999)
FACTORS = (10.0, 100.0, 1000.0)
SHOWN = ("output", "to input", "to parameters", "running variance")
Row = tuple[str, str, str, float, str, str, float]  # against, kind, precision, value, path, quantity, error


def white(spec: BlockSpec, seed: int) -> Tensor:
    return torch.randn(8, spec.in_channels, 16, 16, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def correlated(spec: BlockSpec, seed: int, correlation: float) -> Tensor:
    """A common part of each image and channel, or of each image and pixel, and a part of every value's own."""
    x = white(spec, seed)
    common = x.mean(1 if spec.kernel_size == 1 else (2, 3), keepdim=True)
    common = (common - common.mean()) / common.std()
    return correlation**0.5 * common + (1 - correlation) ** 0.5 * x


def with_outlier(spec: BlockSpec, seed: int, factor: float) -> Tensor:
    """One pixel of one image is so many times what it would be."""
    x = white(spec, seed)
    x[0, :, 8, 8] *= factor
    return x


def curves(repeats: int) -> Iterator[Row]:
    from folded_blocks import draw_block
    from recorded import Recorded, errors_by_path

    for kind, spec in KINDS.items():
        inputs = [("mean / spread", value, lambda seed, v=value, s=spec: white(s, seed) + v) for value in OFFSETS]
        inputs += [
            ("correlation", value, lambda seed, v=value, s=spec: correlated(s, seed, v)) for value in CORRELATIONS
        ]
        inputs += [("outlier", value, lambda seed, v=value, s=spec: with_outlier(s, seed, v)) for value in FACTORS]
        for against, value, draw in inputs:
            for seed in range(repeats):
                block = draw_block(spec, seed, dtype=torch.float32)
                shape = block(torch.zeros(8, spec.in_channels, 16, 16)).shape
                gradient = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
                recorded = Recorded(kind, seed, block, draw(seed).float(), gradient)
                for precision, autocast in (("float32", False), ("bfloat16", True)):
                    for path, found in errors_by_path(recorded, autocast).items():
                        for quantity in SHOWN:
                            yield against, kind, precision, value, path, quantity, found[quantity]


def medians(rows: list[Row]) -> dict[tuple[str, str, str, float, str, str], float]:
    groups: dict[tuple[str, str, str, float, str, str], list[float]] = {}
    for *key, error in rows:
        groups.setdefault(tuple(key), []).append(error)  # type: ignore[arg-type]
    return {key: statistics.median(errors) for key, errors in groups.items()}


def show_curves(found: dict[tuple[str, str, str, float, str, str], float]) -> None:
    """A line a point: error of the branches, of the folded path, and their ratio."""
    print(f"{'':<54}" + "".join(f"{quantity:^28}" for quantity in SHOWN))
    print(f"{'':<54}" + f"{'branches':>9} {'folded':>9} {'ratio':>6}   " * len(SHOWN))
    for key in dict.fromkeys(key[:4] for key in found):
        line = f"{key[1]:<20} {key[2]:<9} {key[0]:<13} {key[3]:>8g} "
        for quantity in SHOWN:
            branches, folded = (found[*key, path, quantity] for path in ("branches", "folded"))
            line += f" {branches:>9.1e} {folded:>9.1e} {folded / branches:>6.2f} "
        print(line)


def draw_curves(found: dict[tuple[str, str, str, float, str, str], float], file: Path) -> None:
    """Errors of the output and of the parameters' gradient against the mean, a panel a kind."""
    import matplotlib.pyplot as plt

    from mobileone_core.reporting.figures.style import MEASURED, PUBLISHED, style

    with style():
        figure, axes = plt.subplots(2, len(KINDS), figsize=(12, 5.5), sharex=True, sharey="row", squeeze=False)
        for row, quantity in enumerate(("output", "to parameters")):
            for panel, kind in zip(axes[row], KINDS, strict=True):
                for path, color in (("branches", PUBLISHED), ("folded", MEASURED)):
                    for precision, dash in (("float32", "-"), ("bfloat16", "--")):
                        values = [found["mean / spread", kind, precision, v, path, quantity] for v in OFFSETS]
                        panel.plot(OFFSETS, values, dash, color=color, label=f"{path}, {precision}")
                panel.set_xscale("symlog")
                panel.set_yscale("log")
                panel.set_title(kind if row == 0 else "")
                panel.set_xlabel("mean / spread of the input" if row else "")
            axes[row][0].set_ylabel(f"relative error, {quantity}")
        axes[0][0].legend(fontsize=7)
        figure.tight_layout()
        figure.savefig(file, dpi=200)


def against(errors: dict[str, dict[str, float]], name: str) -> float:
    """The folded path's error in branches' errors, none being held to less than rounding an exact result costs."""
    from recorded import HALF_UNIT

    return errors["folded"][name] / max(errors["branches"][name], HALF_UNIT)


def show_recorded(epochs: int, seeds: int) -> None:
    from recorded import QUANTITIES, errors_by_path, record_training

    last = 18 * epochs - 1  # digits: 18 batches an epoch
    small, one = DataSpec(image_size=64), {"recipe.batch_size": 16, "recipe.epochs": 1}
    tiny, s0 = [], []
    for seed in range(seeds):
        tiny += record_training(changes={"recipe.epochs": epochs}, seed=seed, steps=(0, last // 2, last))
        s0 += record_training("s0", small, one, seed=seed, steps=(0, 10, 40, 71))
    for network, recordings in (("tiny", tiny), ("s0", s0)):
        for precision, autocast in (("float32", False), ("bfloat16", True)):
            found = [(recorded, errors_by_path(recorded, autocast)) for recorded in recordings]
            print(f"\n{network}, {precision}: {len(found)} blocks; ratio folded / branches")
            for name in QUANTITIES:
                ratios = sorted(
                    (against(errors, name), errors["folded"][name], item.name, item.step) for item, errors in found
                )
                ratio, error, block, step = ratios[-1]
                middle = ratios[len(ratios) // 2][0]
                print(f"  {name:<17} median {middle:5.2f}, largest {ratio:5.2f} ({error:.1e}, {block} at step {step})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figure", type=Path, default=None)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--recorded", action="store_true")
    parser.add_argument("--epochs", type=int, default=12, help="of the training that is recorded")
    parser.add_argument("--seeds", type=int, default=1, help="trainings that are recorded")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.recorded:
        show_recorded(arguments.epochs, arguments.seeds)
        return
    found = medians(list(curves(arguments.repeats)))
    show_curves(found)
    if arguments.figure is not None:
        draw_curves(found, arguments.figure)


if __name__ == "__main__":
    main()
