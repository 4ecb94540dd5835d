"""A view says what the report of a measured study shows; here are its interface and the texts that all views share."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

from mobileone_core.benchmark.samples import Estimate
from mobileone_core.reporting.document import MISSING, Column, Section, Table, joined, number_text
from mobileone_core.reporting.environment import DEVICE_TAGS, TOLERANCE, is_within_tolerance, tag_values
from mobileone_core.reporting.figures import style
from mobileone_core.reporting.measured.result import ALIKE, NOT_JUDGED, MeasuredEntry, MeasuredResult
from mobileone_core.study.factor import level_text

Cells = Callable[[MeasuredResult, MeasuredEntry], Mapping[Column, str]]  # what a table shows of an entry
JUDGED = (
    "An entry is called slower or faster where the interval excludes 1 and the ratio differs from 1 by more than the "
    "3 % by which a network may differ from its own copy."
)
TIMED = (
    "*Median*: of the rounds' medians, with its order-statistic 95 % interval over rounds; *minimum*: the statistic of "
    "the paper; nine of ten calls stay below *p90*.",
    "*Ratio*: to the reference's time in the same round; the median over rounds with its order-statistic 95 % "
    f"interval. {JUDGED}",
)


class View(ABC):
    """The content of a measured study's report."""

    def verdict(self, result: MeasuredResult) -> str:
        """Return the answer in sentences: where it was measured, the findings, the control, and what is missing."""
        first = f"Measured on {self.setting(result)}." if result.measured else "Nothing is measured yet."
        gaps = len(result.entries) - len(result.measured)
        missing = f"Not measured: {gaps} of {len(result.entries)} entries." if gaps else ""
        return " ".join(filter(None, (first, *self.findings(result), control_sentence(result), missing)))

    def setting(self, result: MeasuredResult) -> str:
        """Return where it was measured."""
        return location(result)

    @abstractmethod
    def findings(self, result: MeasuredResult) -> Sequence[str]:
        """Return the findings, one sentence or more each."""

    @abstractmethod
    def table(self, result: MeasuredResult) -> Table:
        """Return the main table."""

    def notes(self, result: MeasuredResult) -> Sequence[str]:  # noqa: ARG002
        """Return what the columns of the table mean."""
        return TIMED

    def sections(self, result: MeasuredResult) -> Sequence[Section]:  # noqa: ARG002
        """Return further sections of the page."""
        return ()

    @abstractmethod
    def figure(self, result: MeasuredResult) -> style.Figure:
        """Draw the figure."""


def location(result: MeasuredResult) -> str:
    """Return device and processor: cpu, AMD EPYC."""
    rows = [item.row for item in result.measured if item.row]
    return ", ".join(tag_values(rows, name) for name in DEVICE_TAGS)


def control_sentence(result: MeasuredResult) -> str:
    """Say whether the A/A controls, references timed twice, are within the tolerance."""
    controls = [item.control for item in result.measured if item.is_reference]
    ratios = [value for value in controls if value is not None]
    if not controls:
        return ""
    if len(ratios) < len(controls):
        return "**Not every reference has an A/A control: whether the machine was idle is unknown.**"
    text = f"ratios {min(ratios):.3f} to {max(ratios):.3f}" if len(ratios) > 1 else f"ratio {ratios[0]:.3f}"
    if all(map(is_within_tolerance, ratios)):
        return f"A/A control within {TOLERANCE} ({text})."
    doubt = "the machine was not idle, do not trust ratios to it; --again measures once more"
    return f"**A/A control not within {TOLERANCE} ({text}): {doubt}.**"


def by_verdict(result: MeasuredResult, names: Mapping[str, Sequence[str]], link: str) -> list[str]:
    """Return a text per verdict: its wording, link (here ": ") and its names: slower: silu 1.07 and gelu 1.06."""
    texts = {
        ALIKE: f"no difference that {result.rounds} rounds show",
        NOT_JUDGED: "not judged because the control failed",
    }
    return [f"{texts.get(verdict, verdict)}{link}{joined(items)}" for verdict, items in names.items()]


def entries_table(result: MeasuredResult, cells: Cells) -> Table:
    """Return a table with one row per entry: the level of every factor, then the cells of the entry."""
    rows = []
    for item in result.entries:
        levels = {Column(name): level_text(level) for name, level in item.entry.factors.items()}
        rows.append({**levels, **cells(result, item)})
    return Table(tuple(rows[0]), tuple(tuple(row.values()) for row in rows), labels=len(result.plan.study.factors))


def estimate_text(value: Estimate | None, digits: str = "#.3g") -> str:
    """Format a value with its interval."""
    if value is None:
        return MISSING
    middle, low, high = (number_text(item, digits) for item in (value.value, value.low, value.high))
    return middle if value.low == value.high else f"{middle} [{low}, {high}]"
