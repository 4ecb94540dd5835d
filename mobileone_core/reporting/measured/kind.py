"""How a measured study is reported: its document, and the registry of views."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from mobileone_core.benchmark.protocol import PROTOCOLS, Protocol
from mobileone_core.reporting.document import MISSING, Column, Details, Document, Figure, Paragraph, Section, Table
from mobileone_core.reporting.environment import environment_blocks
from mobileone_core.reporting.figures.style import Drawing, drawing
from mobileone_core.reporting.measured.backbones import BackbonesView
from mobileone_core.reporting.measured.cells import measured_files, read_measured_files
from mobileone_core.reporting.measured.correlation import CorrelationView
from mobileone_core.reporting.measured.levels import LevelsView
from mobileone_core.reporting.measured.result import MeasuredResult, analyse_measured
from mobileone_core.reporting.measured.training import TrainingView
from mobileone_core.reporting.measured.view import View, control_sentence, factor_columns
from mobileone_core.reporting.published import quoted_notes
from mobileone_core.study.measured import MeasuredPlan

VIEWS: Mapping[str, View] = {
    "levels": LevelsView(),
    "correlation": CorrelationView(),
    "backbones": BackbonesView(),
    "training": TrainingView(),
}
LOAD = "host/load"


@dataclass(frozen=True)
class MeasuredKind:
    """Reports of measured studies, whose replicates are rounds."""

    version: int = 2
    record_files = staticmethod(measured_files)
    read_record = staticmethod(read_measured_files)
    analyse = staticmethod(analyse_measured)

    def suffix(self, plan: MeasuredPlan) -> str:
        """Return the plan's id."""
        return plan.id

    def setting(self, plan: MeasuredPlan) -> str:
        """Return protocol and size: protocol interleaved, 20 rounds of 4 calls, 224 px, batch 1."""
        protocol = plan.spec.protocol
        rounds = f"{protocol.rounds} rounds of {_calls(protocol.burst)}"
        return f"protocol {protocol_name(protocol)}, {rounds}, {plan.study.base.size_text}"

    def document(self, result: MeasuredResult) -> Document:
        """Return the report."""
        plan, study, view = result.plan, result.plan.study, VIEWS[result.plan.study.view]
        files = "The same table: `table.csv`, `table.tex`; every entry with all its metrics: `cells.csv`."
        rows = [item.row for item in result.entries if item.row]
        protocol = Paragraph(_protocol_text(result, self.setting(plan)))
        return Document(
            study.name,
            study.question,
            study.source,
            self.setting(plan),
            view.verdict(result),
            view.table(result),
            Figure("figure", study.question),
            notes=[*view.notes(result), *quoted_notes(study.name), files],
            problems=result.problems,
            missing=[
                *(f"{item.entry.label}: {item.unmeasured}" for item in result.entries if item.unmeasured),
                *(f"{label}: {why}" for label, why in study.gaps.items()),
            ],
            sections=[
                *view.sections(result),
                Section("Protocol and environment", (protocol, *environment_blocks(rows, "entries"))),
                Section("Runs", (_runs(result),)),
            ],
            values={"n": str(result.rounds), "entries": str(len(result.measured))},
        )

    def figures(self, result: MeasuredResult) -> Mapping[str, Drawing]:
        """Draw the figure of the study's view, the only one."""
        return {"figure": drawing(lambda: VIEWS[result.plan.study.view].figure(result))}


def protocol_name(protocol: Protocol) -> str:
    """Return the preset that a protocol equals up to its number of rounds and its seed, else what it does."""
    for name, preset in PROTOCOLS.items():
        if replace(protocol, rounds=preset.rounds, seed=preset.seed) == preset:
            return name
    kind = "every model reloaded each round" if protocol.reload else "interleaved"
    trimmed = f", {protocol.trim} lowest and highest of a round trimmed" if protocol.trim else ""
    return f"of its own ({kind}{trimmed})"


def _calls(number: int) -> str:
    return "1 call" if number == 1 else f"{number} calls"


def _protocol_text(result: MeasuredResult, setting: str) -> str:
    protocol = result.plan.spec.protocol
    loads = [item.row.metrics[LOAD] for item in result.measured if item.row and LOAD in item.row.metrics]
    load = f" Load average {max(loads):.2f} before it." if loads else ""
    return (
        f"All entries are interleaved in one process: {setting}; {_calls(protocol.warmup)} to warm up, "
        f"{protocol.untimed} before each burst, order shuffled by seed {protocol.seed}.{load} "
        f"{control_sentence(result)}".strip()
    )


def _runs(result: MeasuredResult) -> Details:
    rows = [(*item.level_texts, f"`{item.row.run_id}`" if item.row else MISSING) for item in result.entries]
    table = Table(
        (*factor_columns(result), Column("run", is_text=True)), tuple(rows), labels=len(result.plan.study.factors)
    )
    return Details(f"All entries of comparison {result.plan.comparison.key} with their runs", (table,))
