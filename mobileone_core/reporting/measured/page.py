"""A measured study's page in Markdown, and as plain text. No torch here."""

from collections.abc import Sequence

from mobileone_core.reporting.measured.published import published_of
from mobileone_core.reporting.measured.result import LOAD, MeasuredResult
from mobileone_core.reporting.measured.view import View
from mobileone_core.reporting.measured.words import calls, control_words, setting
from mobileone_core.reporting.published import CAVEATS
from mobileone_core.reporting.quoted import QUOTED
from mobileone_core.reporting.render.markdown import markdown, plain_table
from mobileone_core.reporting.render.plain import table_lines
from mobileone_core.reporting.trained.result import told
from mobileone_core.reporting.trained.words import MISSING
from mobileone_core.study.factor import level_text


def measured_page(result: MeasuredResult, view: View, fingerprint: str) -> str:
    """README.md of a report directory."""
    study = result.plan.study
    parts = [
        f"# {study.question}",
        f"<!-- Written by `mobileone report`; record {fingerprint}. -->",
        f"Study `{study.name}`, {study.source}. Measured: {setting(result)}.",
        _block(result, view),
        "\n".join(_legend(result, view)),
        _list("Errors in the record", result.problems),
        _list("Not measured", gap_lines(result)),
        *view.sections(result),
        "## Protocol and environment",
        _protocol(result),
        _environment(result),
        "## Runs",
        _runs(result),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def measured_terminal(result: MeasuredResult, view: View) -> str:
    """Question, table, verdict, and what is missing or wrong."""
    lines = [result.plan.study.question, f"Measured: {setting(result)}.", "", *table_lines(view.table(result))]
    lines.append(" ".join(view.sentences(result)).replace("**", ""))
    lines += [f"error: {problem}" for problem in result.problems]
    lines += [f"not measured: {line}" for line in gap_lines(result)]
    return "\n".join(lines)


def gap_lines(result: MeasuredResult) -> list[str]:
    """Arms without times, and why; and what no library has."""
    lines = [f"{item.arm.label}: {item.unmeasured}" for item in result.arms if item.unmeasured]
    return lines + [f"{label}: {why}" for label, why in result.plan.study.gaps.items()]


def _block(result: MeasuredResult, view: View) -> str:
    """Verdict, table and figure between the markers that update_readme looks for."""
    study = result.plan.study
    body = [
        f"**Verdict.** {' '.join(view.sentences(result))}",
        markdown(view.table(result)),
        f"![{study.question}](figure.png)",
    ]
    return "\n\n".join([f"<!-- table:{study.name} -->", *body, f"<!-- end table:{study.name} -->"])


def _legend(result: MeasuredResult, view: View) -> list[str]:
    lines = list(view.notes(result))
    if published_of(result):
        lines.append(f"- *Published*: printed in the paper (table 2), never mixed with ours. "
                     f"{CAVEATS[result.plan.study.published]}")  # fmt: skip
    lines += [
        f"- *Published, in words* ({quoted.source}): {quoted.words}"
        for quoted in QUOTED
        if quoted.study == result.plan.study.name
    ]
    return [*lines, "- The same table: `table.csv`, `table.tex`; every arm with all it recorded: `cells.csv`."]


def _list(title: str, lines: Sequence[str]) -> str:
    return "\n".join([f"## {title}", "", *(f"- {line}" for line in lines)]) if lines else ""


def _protocol(result: MeasuredResult) -> str:
    protocol = result.plan.spec.protocol
    loads = [item.row.metrics[LOAD] for item in result.measured if item.row and LOAD in item.row.metrics]
    load = f" Load average {max(loads):.2f} before it." if loads else ""
    return (
        f"Measured side by side in one process: {setting(result)}; {calls(protocol.warmup)} to warm up, "
        f"{protocol.untimed} before each burst, order shuffled by seed {protocol.seed}.{load} "
        f"{control_words(result)}".strip()
    )


def _environment(result: MeasuredResult) -> str:
    """One line a tag; a runtime's own tags stand for each of its values."""
    tags = [told(item.row) for item in result.arms if item.row]
    lines = []
    for name in sorted({name for tag in tags for name in tag} - {"unmeasured"}):
        texts = sorted(tag[name] for tag in tags if name in tag)
        counts = {text: texts.count(text) for text in texts}
        several = (f"{text} ({count} arms)" for text, count in counts.items())
        lines.append((name, next(iter(counts)) if len(counts) == 1 else "; ".join(several)))
    return plain_table(("tag", "value"), lines) if lines else "Nothing is recorded."


def _runs(result: MeasuredResult) -> str:
    names = [factor.name for factor in result.plan.study.factors]
    lines = [
        (*(level_text(item.arm.factors[name]) for name in names), f"`{item.row.run_id}`" if item.row else MISSING)
        for item in result.arms
    ]
    table = plain_table([*names, "run"], lines)
    summary = f"All arms of comparison {result.plan.comparison.key} with their runs"
    return f"<details><summary>{summary}</summary>\n\n{table}\n\n</details>"
