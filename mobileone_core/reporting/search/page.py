"""A search's page in Markdown, and as plain text. No torch here."""

from collections.abc import Sequence

from mobileone_core.reporting.render.markdown import markdown, plain_table
from mobileone_core.reporting.render.plain import table_lines
from mobileone_core.reporting.search.result import SearchResult
from mobileone_core.reporting.search.words import sentences, setting, table_of_search
from mobileone_core.reporting.trained.result import told
from mobileone_core.reporting.trained.words import MISSING
from mobileone_core.study.factor import level_text


def search_page(result: SearchResult, fingerprint: str) -> str:
    """README.md of a report directory."""
    study = result.plan.study
    parts = [
        f"# {study.question}",
        f"<!-- Written by `mobileone report`; record {fingerprint}. -->",
        f"Study `{study.name}`, {study.source}. Searched: {setting(result.plan)}.",
        _block(result),
        "\n".join(_legend(result)),
        _list("Errors in the record", result.problems),
        _list("Missing", gaps(result)),
        "## How it was searched and measured",
        _how(result),
        "## Environment",
        _environment(result),
        "## Networks and runs",
        _runs(result),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def search_terminal(result: SearchResult) -> str:
    """Question, table, verdict, and what is missing or wrong."""
    lines = [result.plan.study.question, f"Searched: {setting(result.plan)}.", ""]
    lines += [*table_lines(table_of_search(result)), " ".join(sentences(result))]
    lines += [f"error: {problem}" for problem in result.problems]
    lines += [f"missing: {line.replace('`', '')}" for line in gaps(result)]
    return "\n".join(lines)


def gaps(result: SearchResult) -> list[str]:
    """Networks without a point, and finalists without all their seeds."""
    lines = [f"generation {item.generation}, {item.name} (`{item.cell.key}`): not both trained and measured"
             for item in result.candidates if item.point is None]  # fmt: skip
    seeds = result.plan.study.seeds
    return [
        *lines,
        *(f"{item.candidate.name}: {item.test.n} of {seeds} further seeds"
          for item in result.finalists if item.test.n < seeds),
    ]  # fmt: skip


def _block(result: SearchResult) -> str:
    """Verdict, table and figure between the markers that update_readme looks for."""
    name = result.plan.study.name
    table = markdown(table_of_search(result))
    body = [f"**Verdict.** {' '.join(sentences(result))}", table, f"![{result.plan.study.question}](figure.png)"]
    return "\n\n".join([f"<!-- table:{name} -->", *body, f"<!-- end table:{name} -->"])


def _legend(result: SearchResult) -> list[str]:
    seeds = result.plan.study.seeds
    return [
        "- *Network*: a hand-made variant with its k, or the first letters of a candidate's key.",
        "- *Latency ratio*: deployed form in ONNX Runtime, one thread, batch 1, to the reference network in the same "
        "round; the median over rounds with its order-statistic 95 % interval, all finalists side by side. k makes no "
        "difference to a deployed network: such variants are timed once.",
        "- *Val*: one seed, by which the search chose; the best of many is too good by the noise of one seed.",
        f"- *Test*: seeds 1 to {seeds}, which chose nothing; mean with its 95 % t interval.",
        "- The same table: `table.csv`, `table.tex`; every cell: `cells.csv`; every measurement: `comparison.csv`.",
    ]


def _how(result: SearchResult) -> str:
    study, protocol = result.plan.study, result.plan.study.protocol
    sizes = result.plan.space.sizes
    factors = "; ".join(f"{item.name}: {', '.join(map(level_text, item.levels))}" for item in study.factors)
    widths, depths = (", ".join(f"{value:g}" for value in values) for values in (study.widths, study.depths))
    total = 1
    for size in sizes.values():
        total *= size
    return (
        f"{total:,} networks: {factors}; multiples of each stage's channels: {widths}; of its blocks: {depths}. "
        "Each generation is proposed from the results of all before it, trained on any number of workers, and then "
        "measured by one process with nothing else running on the machine: its networks, the reference and the "
        f"reference's twin interleaved in {protocol.rounds} rounds of {protocol.burst} calls. Ratios to the reference "
        "are what enters the search, so that generations compare."
    )


def _list(heading: str, lines: Sequence[str]) -> str:
    return "\n".join([f"## {heading}", "", *(f"- {line}" for line in lines)]) if lines else ""


def _environment(result: SearchResult) -> str:
    """One line a tag, of cells and measurements."""
    rows = [item.row for item in result.candidates if item.row]
    tags = [told(row) for row in (*rows, *result.comparison)]
    names = sorted({name for tag in tags for name in tag})
    lines = [(name, "; ".join(sorted({tag[name] for tag in tags if name in tag}))) for name in names]
    return plain_table(("tag", "value"), lines) if lines else "Nothing is recorded."


def _runs(result: SearchResult) -> str:
    """Every network in the order of the search, then the further seeds' runs."""
    front = {item.cell.key for item in result.on_front(searched=True)}
    lines = [
        (
            str(item.generation),
            item.name + (" (front)" if item.cell.key in front else ""),
            *(level_text(level) for level in item.cell.factors.values()),
            f"{item.point.latency:.2f}" if item.point else MISSING,
            f"{100 * item.point.accuracy:.2f}" if item.point else MISSING,
            f"`{item.cell.key}`",
            f"`{item.row.run_id}`" if item.row else MISSING,
        )
        for item in result.candidates
    ]
    names = [*result.candidates[0].cell.factors]
    head = ["generation", "network", *names, "latency ratio", "val top-1, %", "cell", "run"]
    more = [(item.candidate.name, ", ".join(f"`{run}`" for run in item.runs)) for item in result.finalists]
    seeds = ["", plain_table(("network", "run"), more)] if more else []
    body = "\n".join([plain_table(head, lines), *seeds])
    return f"<details><summary>All networks with their runs</summary>\n\n{body}\n\n</details>"
