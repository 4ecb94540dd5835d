"""The paper's claims as data: what each says, where it is printed, and which statistic of which study decides."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from mobileone_core.errors import require, require_choice
from mobileone_core.reporting.published import read_published
from mobileone_core.study.factor import Level

LEDGER = tomllib.loads((files("mobileone_core.reporting") / "ledger" / "claims.toml").read_text(encoding="utf-8"))
NOTES: tuple[str, ...] = tuple(LEDGER["notes"])
OPPOSITES = {"better": "worse", "raises": "lowers", "slower": "faster", "above": "below"}
OPPOSITES |= {opposite: verdict for verdict, opposite in OPPOSITES.items()}


@dataclass(frozen=True)
class PaperClaim:
    """A claim of the paper; claims.toml says what its fields mean. Raises InputError."""

    id: str
    text: str
    source: str
    setting: str
    published: tuple[str, ...] = ()
    unit: str = ""
    study: str = ""
    test: str = ""
    on: str = ""
    data: str = ""
    levels: tuple[Mapping[str, Level], ...] = ()
    base: Mapping[str, Level] = field(default_factory=dict)
    expect: str = ""
    metric: str = "test/top1"
    than: float | None = None
    needs: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    command: str = ""

    def __post_init__(self) -> None:
        require(bool(self.study) == bool(self.test), f"{self.id}, test", self.test, "given where study is")
        if self.test:
            require_choice(f"{self.id}, expect", self.expect, [*OPPOSITES])
        _ = self.published_numbers

    @property
    def published_numbers(self) -> list[tuple[str, ...]]:
        """The printed numbers of every pair, as printed."""
        parts = (pair.partition(":") for pair in self.published)
        return [
            tuple(printed(table, *cell.split("/")) for cell in cells.split(" against ")) for table, _, cells in parts
        ]

    @property
    def published_text(self) -> str:
        """The printed numbers with unit and setting: 71.4 against 70.9 % (S0, ImageNet)."""
        numbers = "; ".join(" against ".join(pair) for pair in self.published_numbers)
        return f"{f'{numbers} {self.unit}'.rstrip()} ({self.setting})" if numbers else self.setting

    @property
    def test_command(self) -> str:
        """The command that tests the claim in the paper's setting; empty if nothing here does."""
        return self.command.format(study=self.study) or (f"python studies/{self.study}.py" if self.study else "")

    @property
    def is_time(self) -> bool:
        """Whether the claim is on latency."""
        return self.test in ("time", "correlation") or bool(self.on)

    @property
    def topic(self) -> str:
        """The topic of the claim: on phones, on CPUs, on GPUs, on time or on accuracy."""
        named = {"phone": "phones", "cpu": "CPUs", "gpu": "GPUs", "": "time" if self.is_time else "accuracy"}
        return f"on {named[self.on]}"

    def counts(self, variant: str) -> bool:
        """Whether results of a variant are evidence."""
        return variant not in self.excludes and (not self.needs or variant in self.needs)


def printed(table: str, row: str, column: str) -> str:
    """Return a number as a published table prints it, the row by its first column. Raises InputError if it does not."""
    rows = {str(next(iter(item.values()))): item for item in read_published(table)}
    value = rows.get(row, {}).get(column)
    require(value is not None, f"published, {table}", f"{row}/{column}", "a printed number of that table")
    return str(value)


@cache
def read_claims() -> tuple[PaperClaim, ...]:
    """Return every claim of claims.toml, in the order of the paper."""
    return tuple(map(claim_of, LEDGER["claim"]))


def claim_of(fields: Mapping[str, Any]) -> PaperClaim:
    """Return a claim from its TOML table."""
    values: dict[str, Any] = {name: tuple(item) if isinstance(item, list) else item for name, item in fields.items()}
    return PaperClaim(**values)
