"""The protocol of benchmark subjects: build an entry's calls, check them, and compute metrics of their samples."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic

from mobileone_core.benchmark.calls import TrainingStep
from mobileone_core.benchmark.interleave import TimedCall
from mobileone_core.benchmark.samples import Samples
from mobileone_core.benchmark.spec import BenchmarkSpec, Cell, Entry, EntryResult
from mobileone_core.training.execution import Execution

CONTROL = "_control"  # ends the name of a reference's second copy


@dataclass
class Prepared(Generic[Cell]):
    """An entry, or one form of it, that is ready to be timed.

    calls: by the name of their samples; a reference has each twice, the second ending in _control. metrics: counts and
    bytes, known before anything is timed. tags: how it runs. step: the training step among the calls, whose loss must
    stay finite. unmeasured: why it cannot be timed; empty otherwise.
    """

    entry: Entry[Cell]
    calls: Mapping[str, TimedCall] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    form: str = ""
    step: TrainingStep | None = None
    unmeasured: str = ""

    def label(self, call: str) -> str:
        """The call's name among those of all entries."""
        return " ".join(filter(None, (call, self.form, self.entry.label)))


Timed = Sequence[Prepared[Cell]]


class Subject(ABC, Generic[Cell]):
    """One kind of benchmark. measure() asks it for every entry in turn, then for the metrics of every entry.

    execution: how calls run whose cells do not name device and threads themselves. folder: for temporary files.
    """

    def __init__(self, spec: BenchmarkSpec[Cell], execution: Execution, folder: Path) -> None:
        self.spec, self.execution, self.folder = spec, execution, folder

    @abstractmethod
    def prepare(self, entry: Entry[Cell]) -> Sequence[Prepared[Cell]]:
        """Build an entry, count and check it: one item, or one per form. Raises InputError."""

    def compare(self, prepared: Sequence[Prepared[Cell]]) -> None:
        """Compare outputs of entries that must agree, and set unmeasured where they do not. By default, do nothing."""

    @abstractmethod
    def metrics(self, item: Prepared[Cell], others: Timed[Cell], samples: Samples) -> dict[str, float]:
        """The metrics of a timed entry; others are all timed entries, itself included."""

    def result(self, item: Prepared[Cell], timed: Timed[Cell], samples: Samples, load: float) -> EntryResult:
        """The recorded result of an item; timed are all timed ones, load is that of the machine before."""
        entry, metrics, saved = item.entry, {**item.metrics, "host/load": load}, {}
        if not item.unmeasured:
            metrics |= self.metrics(item, timed, samples)
            saved = self.saved_samples(item, samples)
            for name in (name for name in item.calls if name + CONTROL in item.calls):
                metrics[f"control/{name}_ratio"] = samples.ratio(item.label(name + CONTROL), item.label(name)).value
        return EntryResult(entry.label, entry.factors, item.form, metrics, saved, item.tags, item.unmeasured)

    def saved_samples(self, item: Prepared[Cell], samples: Samples) -> dict[str, list[list[float]]]:
        """The samples that the record keeps: every time of every call."""
        return {name: samples.times[item.label(name)].tolist() for name in item.calls}


def copy_suffixes(entry: Entry[Cell]) -> tuple[str, ...]:
    """Suffixes of the call names of an entry's copies: "" and, for a reference, which is built twice, CONTROL."""
    return ("", CONTROL) if entry.reference == entry.label else ("",)
