"""What a measured study's report shows beside protocol and environment: one class a view. No torch here."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from mobileone_core.reporting.measured.result import MeasuredResult
from mobileone_core.reporting.measured.words import levels_sentences, levels_table
from mobileone_core.reporting.trained.words import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TIMED = (
    "- *Median*: of the rounds' medians, with its order-statistic 95 % interval over rounds; *minimum* is the "
    "paper's statistic; nine of ten calls stay below *p90*.",
    "- *Ratio*: to the reference's time in the same round; the median over rounds with its order-statistic 95 % "
    "interval. Slower and faster stand where the interval leaves 1 out and the ratio differs from 1 by more than "
    "the 3 % that a network timed against its own twin may differ.",
)


class View(Protocol):
    """Verdict, table, figure, and more sections of a page."""

    def sentences(self, result: MeasuredResult) -> Sequence[str]:
        """The verdict."""

    def table(self, result: MeasuredResult) -> Table:
        """The page's table, LaTeX's and the terminal's."""

    def notes(self, result: MeasuredResult) -> Sequence[str]:
        """Lines of the legend."""

    def sections(self, result: MeasuredResult) -> Sequence[str]:
        """Parts of the page after the list of what is not measured."""

    def figure(self, result: MeasuredResult) -> "Figure":
        """The figure, drawn inside style()."""


class LevelsView:
    """A row an arm, its ratio to its reference."""

    def sentences(self, result: MeasuredResult) -> Sequence[str]:
        return levels_sentences(result)

    def table(self, result: MeasuredResult) -> Table:
        return levels_table(result)

    def notes(self, result: MeasuredResult) -> Sequence[str]:  # noqa: ARG002
        return TIMED

    def sections(self, result: MeasuredResult) -> Sequence[str]:  # noqa: ARG002
        return ()

    def figure(self, result: MeasuredResult) -> "Figure":
        from mobileone_core.reporting.measured.figure import levels_figure

        return levels_figure(result)
