"""Parts of reports of studies with int8 levels: the loss of every int8 network against its own float32 network."""

from collections import defaultdict
from collections.abc import Mapping
from functools import cached_property

from mobileone_core.reporting.document import MISSING, Bullets, Column, Figure, Section, Table, joined
from mobileone_core.reporting.metric import Metric
from mobileone_core.reporting.trained.result import TrainedResult
from mobileone_core.reporting.trained.tables import summary_text
from mobileone_core.reporting.untrained import Finished, only_guesses
from mobileone_core.study.factor import Level, level_label, level_text
from mobileone_core.study.statistics import Analysis, compare

LOSS = Metric("test/top1", "points", 100.0, 2, higher_is_better=False)
TOP1, SIMULATED = "test/top1", "simulated/top1"


class Int8Losses:
    """Losses of test top-1 by int8, in points, paired with the float32 network of the same levels and seed."""

    def __init__(self, result: TrainedResult) -> None:
        self.result = result
        factors = result.plan.study.factors
        self.int8 = [item.name for item in factors if any(name.startswith("quantization.") for name in item.set_fields)]
        self.others = [item.name for item in factors if item.name not in self.int8]

    @cached_property
    def groups(self) -> Mapping[tuple[str, str], list[Finished]]:
        """The finished quantized cells with their rows, by int8 setting and by network, the other factors' levels."""
        groups = defaultdict[tuple[str, str], list[Finished]](list)
        for cell, row in self.result.finished(*self.result.levels):
            if cell.spec.is_quantized:
                name = self.label(cell.factors, self.int8), self.label(cell.factors, self.others)
                groups[name].append((cell, row))
        return groups

    @cached_property
    def samples(self) -> Mapping[str, Mapping[str, Mapping[int, float]]]:
        """Losses by int8 setting, by network and by seed."""
        losses: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
        rows = {**self.result.rows, **self.result.teachers}
        for (setting, network), pairs in self.groups.items():
            for cell, row in pairs:
                if (float32 := rows.get(cell.spec.float32.key)) is not None:
                    loss = LOSS.scale * (float32.metrics[TOP1] - row.metrics[TOP1])
                    losses[setting][network][cell.seed] = loss
        return losses

    @cached_property
    def analyses(self) -> Mapping[str, Analysis]:
        """Each int8 setting's losses, compared with those of the baseline network."""
        baseline = self.label(self.result.plan.study.baseline, self.others)
        return {
            setting: compare(sample, baseline, higher_is_better=False)
            for setting, sample in self.samples.items()
            if baseline in sample
        }

    def label(self, setting: Mapping[str, Level], names: list[str]) -> str:
        """The levels of some factors: 4."""
        return level_label({name: setting[name] for name in names}) if names else "network"


def int8_sentences(result: TrainedResult) -> list[str]:
    """The cost of int8 for the baseline network, and who loses more or less; none for a study without int8 levels."""
    losses = Int8Losses(result)
    names, sentences, hidden, costs = ", ".join(losses.others), [], [], []
    for setting, analysis in losses.analyses.items():
        for row in analysis.comparisons:
            if row.level == analysis.baseline:
                costs.append(f"{setting} {summary_text(row.summary, 2, '+')}")
            elif row.verdict in ("better", "worse"):
                loses = f"loses {'more' if row.verdict == 'worse' else 'less'} than {analysis.baseline}"
                change = LOSS.difference(row, with_unit=True)
                sentences.append(f"By int8 ({setting}) {names} = {row.level} {loses}: {change}.")
            elif row.detectable is not None:
                hidden.append(row)
    count = f"{len(hidden)} of {len(sentences) + len(hidden)}"
    sentences = [*_destroyed(losses), *sentences]
    if costs:
        baseline = result.plan.study.baseline
        network = ", ".join(f"{name} = {level_text(baseline[name])}" for name in losses.others) or "the network"
        sentences.insert(0, f"Points of top-1 that int8 costs {network}: {', '.join(costs)}.")
    if hidden:
        power = LOSS.detectable_text(hidden)
        sentences.append(f"{count} comparisons of losses by int8 show no difference between networks ({power}).")
    return sentences


def int8_section(result: TrainedResult) -> Section:
    """Loss by int8 setting and network, agreement with the reference, and the figure of ranges."""
    losses = Int8Losses(result)
    heading = "Loss by int8, against the same network in float32"
    if not losses.samples:
        return Section(heading, ())
    names = (*losses.int8, *losses.others)
    columns = (
        *map(Column, names),
        Column("loss of top-1, points", "mean ± 95 % interval"),
        Column("n", "seeds"),
        Column("more than the baseline, points", "[simultaneous 95 %]"),
        Column("verdict", is_text=True),
        Column("size of the file", "share of float32"),
    )
    rows = []
    for setting, analysis in losses.analyses.items():
        for row in analysis.comparisons:
            difference = LOSS.difference(row) or MISSING
            loss = summary_text(row.summary, 2, "+")
            metrics = [cell.metrics for _, cell in losses.groups[setting, row.level]]
            share = sum(item["int8/bytes"] / item["float32/bytes"] for item in metrics) / len(metrics)
            rows.append((setting, row.level, loss, str(row.summary.n), difference, row.verdict, f"{share:.2f}"))
    table = Table(columns, tuple(rows), len(names), file="int8")
    return Section(heading, (table, Figure("ranges", "Ranges of weights and activations"), _notes(losses)), is_key=True)


def _destroyed(losses: Int8Losses) -> list[str]:
    """Networks that int8 brings down to guessing, by int8 setting and network."""
    names, destroyed = ", ".join(losses.others), []
    for (setting, network), pairs in losses.groups.items():
        if count := sum(only_guesses(*pair) for pair in pairs):
            destroyed.append(f"{setting} of {names} = {network} ({count} of {len(pairs)} seeds)")
    return [f"Down to guessing by int8: {joined(destroyed)}."] if destroyed else []


def _notes(losses: Int8Losses) -> Bullets:
    """How losses are paired, the distance from the reference, and the bits of weights."""
    cells = [pair for pairs in losses.groups.values() for pair in pairs]
    rows = [row.metrics for _, row in cells]
    distance = max(abs(row[TOP1] - row[SIMULATED]) for row in rows) * LOSS.scale
    bits = ", ".join(sorted({level_text(int(row["int8/weight_bits"])) for row in rows}))
    images = sorted({cell.spec.quantization.images for cell, _ in cells})
    vnni = "the processor has VNNI" if bits == "8" else "processors without VNNI saturate with 8"
    return Bullets(
        [
            "*Loss*: top-1 of the float32 network minus that of its int8 file, seed by seed. *More than the baseline*: "
            "losses against those of the baseline network, one model per int8 setting, as in the table above. "
            "Main effects are not tested: the int8 files of a network are no replicates of its training.",
            f"Quantized after training by ONNX Runtime, on {', '.join(map(str, images))} training images; weights take "
            f"{bits} bits ({vnni}). The size of larger networks' files falls to 0.25.",
            f"The same files, executed with torch without saturation, give top-1 that differs by {distance:.2f} points "
            f"at most, the largest of {len(rows)} cells (0.2 are allowed).",
            "*Ranges*: per layer the largest absolute weight, its median over output channels (dashed) and the span of "
            "the layer's input, means over seeds. Where the two lines of a network lie apart, one scale per tensor "
            "leaves most channels few steps.",
        ]
    )
