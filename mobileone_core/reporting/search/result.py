"""A search joined with its record: the data behind its page, tables and figure."""

from dataclasses import dataclass

from mobileone_core.benchmark.samples import Estimate
from mobileone_core.reporting.document import MISSING
from mobileone_core.study.plan import PlannedCell
from mobileone_core.study.rows import CellRow, StudyRecord
from mobileone_core.study.search import Point, front, hypervolume
from mobileone_core.study.search_plan import CANDIDATE, RATIO, SearchPlan
from mobileone_core.study.statistics import Summary, summarize

TEST = "test/top1"
SLACK = 1.1  # latency of the reference point over that of the slowest network


@dataclass(frozen=True)
class Candidate:
    """A network of the search: its first cell, its generation, its point on validation and the row of its run."""

    cell: PlannedCell
    generation: int
    point: Point | None
    row: CellRow | None

    @property
    def is_searched(self) -> bool:
        """Whether the search proposed it; False for hand-made networks."""
        return self.cell.variant == CANDIDATE

    @property
    def name(self) -> str:
        """tiny k=4, or the first letters of a candidate's key."""
        return self.cell.key[:4] if self.is_searched else f"{self.cell.variant} k={self.cell.spec.model.k}"

    @property
    def latency_text(self) -> str:
        """The latency ratio measured during the search."""
        return f"{self.point.latency:.2f}" if self.point else MISSING

    @property
    def accuracy_text(self) -> str:
        """Validation accuracy in percent."""
        return f"{100 * self.point.accuracy:.2f}" if self.point else MISSING


@dataclass(frozen=True)
class Finalist:
    """A network at the end: test accuracy over further seeds, which chose nothing, and latency among the finalists."""

    candidate: Candidate
    test: Summary
    ratio: Estimate | None
    runs: tuple[str, ...]

    @property
    def name(self) -> str:
        """The network's name."""
        return self.candidate.name

    @property
    def point(self) -> Point | None:
        """Mean test accuracy and latency ratio among the finalists; None if either is missing."""
        if self.test.mean is None or self.ratio is None:
            return None
        return Point(self.test.mean, self.ratio.value)


@dataclass(frozen=True)
class SearchResult:
    """All networks in the order of the search, and the finalists, none before the search is finished."""

    plan: SearchPlan
    candidates: tuple[Candidate, ...]
    finalists: tuple[Finalist, ...]
    problems: tuple[str, ...]
    comparison: tuple[CellRow, ...]

    @property
    def reference(self) -> Point:
        """The worst corner of hypervolumes: no accuracy, 10 % slower than the slowest network."""
        return Point(0.0, SLACK * max((item.point.latency for item in self.candidates if item.point), default=1.0))

    def volume(self, *, searched: bool) -> float:
        """Return the hypervolume of the candidates, or of the hand-made networks, on validation."""
        points = [item.point for item in self.candidates if item.point and item.is_searched == searched]
        return hypervolume(points, self.reference)

    def on_front(self, *, searched: bool) -> list[Candidate]:
        """Return the front of the candidates, or of the hand-made networks, on validation."""
        networks = [item for item in self.candidates if item.point and item.is_searched == searched]
        return [networks[index] for index in front([item.point for item in networks if item.point])]

    def dominators(self, item: Finalist) -> list[Finalist]:
        """Return the candidates among the finalists that dominate a finalist on test."""
        others = [other for other in self.finalists if other.candidate.is_searched]
        point = item.point
        return [other for other in others if point and other.point and other.point.dominates(point)]


def analyse_search(plan: SearchPlan, record: StudyRecord) -> SearchResult:
    """Join a plan with its record; networks without rows have no point."""
    rows = {row.key: row for row in record.rows}
    points = plan.points(record)
    candidates = tuple(
        Candidate(cell, number, points.get(cell.key), rows.get(cell.key))
        for number, cells in enumerate(plan.generations)
        for cell in cells
    )
    by_key = {item.cell.key: item for item in candidates}
    finalists = tuple(_finalist(plan, record, by_key[cell.key], rows) for cell in plan.finalists)
    return SearchResult(plan, candidates, finalists, tuple(record.problems), tuple(record.comparison))


def _finalist(plan: SearchPlan, record: StudyRecord, item: Candidate, rows: dict[str, CellRow]) -> Finalist:
    seeds = [rows[cell.key] for cell in plan.seeds_of(item.cell) if cell.key in rows]
    row = plan.latency_row(record, item.cell, final=True)
    ratio = None
    if row is not None and RATIO in row.metrics:
        ratio = Estimate(*(row.metrics[name] for name in (RATIO, f"{RATIO}_low", f"{RATIO}_high")))
    return Finalist(item, summarize(row.metrics[TEST] for row in seeds), ratio, tuple(row.run_id for row in seeds))
