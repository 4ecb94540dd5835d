"""How a measured study is reported: its document, and the registry of views."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from mobileone_core.benchmark.protocol import PROTOCOLS, Protocol
from mobileone_core.files import saved_text
from mobileone_core.reporting.devices import devices_text, read_devices_csv
from mobileone_core.reporting.document import MISSING, Column, Details, Document, Figure, Paragraph, Section
from mobileone_core.reporting.environment import environment_blocks
from mobileone_core.reporting.figures.style import Drawing, drawing
from mobileone_core.reporting.measured.backbones import BackbonesView
from mobileone_core.reporting.measured.correlation import CorrelationView
from mobileone_core.reporting.measured.levels import LevelsView
from mobileone_core.reporting.measured.result import MeasuredResult, analyse_measured, runs_by_label
from mobileone_core.reporting.measured.training import TrainingView
from mobileone_core.reporting.measured.view import View, control_sentence, entries_table
from mobileone_core.reporting.published import quoted_notes
from mobileone_core.reporting.render.csv import FACTOR, factor_columns, read_rows, rows_csv
from mobileone_core.study.factor import level_text
from mobileone_core.study.measured import MeasuredPlan
from mobileone_core.study.rows import EvaluationRow, StudyRecord
from mobileone_core.texts import csv_rows, csv_text

VIEWS: Mapping[str, View] = {
    "levels": LevelsView(),
    "correlation": CorrelationView(),
    "backbones": BackbonesView(),
    "training": TrainingView(),
}
LOAD = "host/load"
RUN = Column("run", is_text=True)
EVALUATION = ("variant", "data", "split", "form", "crop", "interpolation", "image_size", "sha256", "run_id")
NUMBERS = ("top1", "images")


class MeasuredKind:
    """Reports of measured studies, whose replicates are rounds."""

    version = 2
    analyse = staticmethod(analyse_measured)

    def suffix(self, plan: MeasuredPlan) -> str:
        """Return the plan's id."""
        return plan.id

    def setting(self, plan: MeasuredPlan) -> str:
        """Return protocol and size: protocol interleaved, 20 rounds of 4 calls, 224 px, batch 1."""
        protocol = plan.spec.protocol
        rounds = f"{protocol.rounds} rounds of {_calls(protocol.burst)}"
        return f"protocol {protocol_name(protocol)}, {rounds}, {plan.study.base.size_text}"

    def record_files(self, plan: MeasuredPlan, record: StudyRecord) -> dict[str, str]:
        """Return cells.csv with one row per entry, without values if it has no run, evaluations.csv and devices.csv."""
        runs = runs_by_label(plan, record)
        cells = [
            ({"key": plan.comparison.key, **factor_columns(entry.factors)}, runs[entry.label])
            for entry in plan.spec.entries
        ]
        evaluations = sorted(
            (*(getattr(row, name) for name in EVALUATION), *(repr(float(getattr(row, name))) for name in NUMBERS))
            for row in record.evaluations
        )
        return {
            "cells.csv": rows_csv(cells),
            "evaluations.csv": csv_text([(*EVALUATION, *NUMBERS), *evaluations]) if evaluations else "",
            "devices.csv": devices_text(record.devices) if record.devices else "",
        }

    def read_record(self, plan: MeasuredPlan, directory: Path) -> StudyRecord:
        """Read what record_files returned. Raises KeyError or ValueError if it is of another plan."""
        names = [factor.name for factor in plan.study.factors]
        key, settings = plan.comparison.key, [entry.factors for entry in plan.spec.entries]
        cells = {(key, *(level_text(levels[name]) for name in names)): (0, levels) for levels in settings}
        text = (directory / "cells.csv").read_text(encoding="utf-8")
        rows = read_rows(text, lambda line: cells[(line["key"], *(line[FACTOR + name] for name in names))])
        evaluations = []
        for line in csv_rows(saved_text(directory / "evaluations.csv")):
            texts = {name: line[name] for name in EVALUATION}
            evaluations.append(EvaluationRow(**texts, top1=float(line["top1"]), images=float(line["images"])))
        devices = saved_text(directory / "devices.csv")
        device_rows = read_devices_csv(devices) if devices else ()
        return StudyRecord((), (), tuple(rows), evaluations=tuple(evaluations), devices=device_rows)

    def document(self, result: MeasuredResult) -> Document:
        """Return the report."""
        plan, study, view = result.plan, result.plan.study, VIEWS[result.plan.study.view]
        files = "The same table: `table.csv`, `table.tex`; every entry with all its metrics: `cells.csv`."
        rows = [item.row for item in result.entries if item.row]
        summary = f"All entries of comparison {plan.comparison.key} with their runs"
        runs = entries_table(result, lambda _, item: {RUN: f"`{item.row.run_id}`" if item.row else MISSING})
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
                Section("Runs", (Details(summary, (runs,)),)),
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
