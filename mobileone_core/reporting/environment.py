"""Where and how rows were measured: the environment tags that reports show."""

import functools
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath, PureWindowsPath

from mobileone_core.benchmark.protocol import CONTROL_TOLERANCE
from mobileone_core.reporting.document import Block, Column, Paragraph, Table
from mobileone_core.study.rows import CellRow

PRIVATE_TAGS = ("host", "pid")  # of the machine's owner, not of the measurement
DEVICE_TAGS = ("device", "processor")  # without them no time is shown
TOLERANCE = f"{100 * CONTROL_TOLERANCE:.0f} %"


def reportable_tags(row: CellRow) -> dict[str, str]:
    """The tags that reports show, without the names of hosts and processes, and without paths."""
    return {name: text for name, text in row.environment.items() if name not in PRIVATE_TAGS and _is_reportable(text)}


@functools.lru_cache(maxsize=4096)
def _is_reportable(text: str) -> bool:
    return bool(text) and not PurePosixPath(text).is_absolute() and not PureWindowsPath(text).drive


def names_device(row: CellRow) -> bool:
    """Whether device and processor of a row are recorded."""
    return all(row.environment.get(name) for name in DEVICE_TAGS)


def is_within_tolerance(ratio: float) -> bool:
    """Whether a ratio of two times is within CONTROL_TOLERANCE of 1, as that of a network to its own copy must be."""
    return abs(ratio - 1) <= CONTROL_TOLERANCE


def tag_values(rows: Iterable[CellRow], name: str) -> str:
    """The values of a tag over all rows: AMD EPYC / Any CPU; empty where none has it."""
    return " / ".join(sorted({tags[name] for row in rows if name in (tags := reportable_tags(row))}))


def environment_blocks(rows: Sequence[CellRow], noun: str, *, alike: bool = False) -> tuple[Block, ...]:
    """A table with a line per tag; where values differ, how many rows (cells, networks) have each.

    alike: the rows are compared with one another. Rows without a tag count too, and differences are warned of.
    """
    rows_tags = [reportable_tags(row) for row in rows]
    names = sorted({name for tags in rows_tags for name in tags} - {"unmeasured"})
    counts = {
        name: Counter(tags.get(name, "not recorded") for tags in rows_tags if alike or name in tags) for name in names
    }
    if not counts:
        return (Paragraph("Nothing is recorded."),)
    lines = []
    for name, values in counts.items():
        texts = [text if len(values) == 1 else f"{text} ({count} {noun})" for text, count in sorted(values.items())]
        lines.append((name, "; ".join(texts)))
    differing = [name for name, values in counts.items() if alike and len(values) > 1]
    warning = f"**The {noun} were not all measured alike: {', '.join(differing)} differ.**" if differing else ""
    return Paragraph(warning), Table((Column("tag", is_text=True), Column("value", is_text=True)), tuple(lines))
