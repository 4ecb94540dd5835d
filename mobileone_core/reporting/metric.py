"""How a recorded metric is shown: unit, digits, and which direction is better."""

from collections.abc import Iterable
from dataclasses import dataclass

from mobileone_core.errors import require
from mobileone_core.study.least_squares import Contrast
from mobileone_core.study.plan import span
from mobileone_core.study.statistics import Paired
from mobileone_core.training.tasks import metric_labels

EXACT = 1e-9  # a difference below this is 0 and rounding
LOWER = {"loss": ("", 4), "seconds": ("s", 2), "ms": ("ms", 3), "bytes": ("MiB", 1), "error": ("", 4)}


@dataclass(frozen=True)
class Metric:
    """A record's value times scale is a report's value, in unit; differences of percentages are points."""

    name: str
    unit: str
    scale: float
    decimals: int
    higher_is_better: bool

    @property
    def label(self) -> str:
        """The name as printed: test top-1."""
        stage, _, last = self.name.rpartition("/")
        return f"{stage} {metric_labels().get(last, last)}".strip().replace("/", " ").replace("_", " ")

    @property
    def difference_unit(self) -> str:
        """The unit of a difference."""
        return "points" if self.unit == "%" else self.unit

    def number(self, value: float) -> str:
        """A value with its digits."""
        return f"{value:.{self.decimals}f}"

    def signed(self, value: float) -> str:
        """A difference with its sign; one that rounding would put at 0 keeps a digit that shows its side."""
        if abs(value) < EXACT:
            return self.number(0)
        text = f"{value:+.{self.decimals}f}"
        return text if float(text) else f"{value:+.1g}"

    def amount(self, value: float) -> str:
        """A difference's size with its unit: 0.42 points."""
        return f"{self.number(value)} {self.difference_unit}".rstrip()

    def difference(self, row: Contrast | Paired, *, with_unit: bool = False) -> str:
        """A contrast's estimate, unit and interval: +2.00 points [+1.56, +2.44]; nothing where there is none."""
        if row.difference is None:
            return ""
        text = f"{self.signed(row.difference)} {self.difference_unit if with_unit else ''}".rstrip()
        if row.low is None or row.high is None:
            return text
        return f"{text} [{self.signed(row.low)}, {self.signed(row.high)}]"

    def detectable_text(self, rows: Iterable[Contrast]) -> str:
        """The contrasts' detectable differences: one of 0.42 to 0.57 points is detected with 80 % power."""
        sizes = span((row.detectable for row in rows if row.detectable is not None), f".{self.decimals}f")
        return f"{f'one of {sizes} {self.difference_unit}'.rstrip()} is detected with 80 % power"


def metric_of(name: str) -> Metric:
    """Return how a metric of the record is shown. Raises InputError where its name does not say."""
    last, fractions = name.rpartition("/")[2], (*metric_labels(), "accuracy")
    if last in fractions:
        return Metric(name, "%", 100.0, 2, higher_is_better=True)
    ending = last.rpartition("_")[2]
    require(ending in LOWER, "metric", name, f"a name that ends in {', '.join((*fractions, *LOWER))}")
    unit, decimals = LOWER[ending]
    return Metric(name, unit, 1 / 2**20 if unit == "MiB" else 1.0, decimals, higher_is_better=False)
