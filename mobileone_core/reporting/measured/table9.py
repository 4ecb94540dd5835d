"""Table 9 of the paper next to the entries of a measured study: which row an entry is, and how our network differs."""

from mobileone_core.latency.zoo import TABLE_9, ZOO
from mobileone_core.reporting.figures.scatter import NamedPoint
from mobileone_core.reporting.measured.result import MeasuredResult
from mobileone_core.reporting.published import Row, read_published

# Rows of table 9 that figure 2 leaves out.
LEFT_OUT = ("Mobileformer-96", "ConViT-tiny", "MobileNetV2-x1.4", "MobileNeXt-x1.0")
LATENCIES = ("mobile", "cpu", "gpu")  # columns with _ms


def rows() -> tuple[Row, ...]:
    """Return all rows of table 9."""
    return read_published("table9_imagenet")


def shown_rows(result: MeasuredResult) -> tuple[Row, ...]:
    """Return the rows of a study's networks; all rows for an unchanged study, and if every network is measured."""
    networks = {item.network for item in result.entries}
    names = set(map(paper_name, networks))
    is_whole = result.plan.default or networks >= set(TABLE_9)
    return rows() if is_whole else tuple(row for row in rows() if row["model"] in names)


def figure2_models() -> tuple[Row, ...]:
    """Return the rows of the 21 models of figure 2."""
    return tuple(row for row in rows() if row["model"] not in LEFT_OUT and not str(row["model"]).startswith("RepVGG-"))


def figure2_names() -> set[str]:
    """Return the names of these models."""
    return {str(row["model"]) for row in figure2_models()}


def number_in(row: Row, column: str) -> float:
    """Return the number in a column of a published table's row."""
    return float(str(row[column]))


def points(x: str, y: str, scale: float = 1.0) -> list[NamedPoint]:
    """Return the rows that have both columns as points, x multiplied by scale."""
    complete = [row for row in rows() if row[x] and row[y]]
    return [NamedPoint(str(row["model"]), scale * number_in(row, x), number_in(row, y)) for row in complete]


def paper_name(network: str) -> str:
    """Return the model of table 9 that a network of latency/zoo.py is; empty if none."""
    title = ZOO[network].title if network in ZOO else ""
    return title if any(row["model"] == title for row in rows()) else ""


def network_notes(result: MeasuredResult) -> list[str]:
    """Return notes on libraries' networks that differ from the published ones."""
    notes = {ZOO[item.network].title: ZOO[item.network].note for item in result.entries if item.network in ZOO}
    return [f"*Measured network* {title}: {note}." for title, note in notes.items() if note]
