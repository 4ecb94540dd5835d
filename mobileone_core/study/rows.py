"""What the record tells of a study: finished cells, their curves, and what was measured side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mobileone_core.study.factor import Level


@dataclass(frozen=True)
class CellRow:
    """A FINISHED run: accuracies are fractions, times seconds. environment holds the tags that say where and how
    (device, processor, threads, versions, git revision).

    Of a comparison it is one arm in one form, its key the comparison's; the form is among the factors.
    """

    key: str
    seed: int
    factors: Mapping[str, Level]
    run_id: str
    metrics: Mapping[str, float]
    environment: Mapping[str, str]


@dataclass(frozen=True)
class CurvePoint:
    """One epoch (from 1) of one metric of a finished run."""

    key: str
    metric: str
    epoch: int
    value: float


@dataclass(frozen=True)
class EvaluationRow:
    """A FINISHED evaluation of a variant as the paper has it: how its images were read, the file by its hash, top-1 as
    a fraction of so many images.
    """

    variant: str
    data: str
    split: str
    form: str
    crop: str
    interpolation: str
    image_size: str
    sha256: str
    run_id: str
    top1: float
    images: float


@dataclass(frozen=True)
class DeviceRow:
    """A FINISHED run of the experiment device_latency: one model on one device by one protocol.

    statistics: milliseconds by name (min, low, median, average, p90, max), those that are known; n predictions;
    source: imported or measured; date: YYYY-MM-DD.
    """

    model: str
    model_hash: str
    device: str
    os: str
    compute_units: str
    protocol: str
    statistics: Mapping[str, float]
    n: int
    run_id: str
    source: str
    date: str
    variant: str = ""
    form: str = ""
    precision: str = ""
    input: str = ""


@dataclass(frozen=True)
class StudyRecord:
    """All that a report shows of a plan: rows of its cells and teachers, and what is wrong with the record in words.

    evaluations belong to no plan: studies that compare backbones show them.
    """

    rows: Sequence[CellRow] = ()
    problems: Sequence[str] = ()
    comparison: Sequence[CellRow] = ()
    curves: Sequence[CurvePoint] = ()
    evaluations: Sequence[EvaluationRow] = ()
    devices: Sequence[DeviceRow] = ()
