"""Rows that reports read: finished cells, their curves, comparisons, evaluations and latencies on devices."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mobileone_core.study.factor import Level

IMAGENET_TEST = 50_000  # images


@dataclass(frozen=True)
class CellRow:
    """A FINISHED run of a cell, or of one entry of a comparison.

    Accuracies are fractions, times seconds. environment: tags of the machine and software (device, processor, threads,
    versions, git revision). The row of an entry has the comparison's key and the form among its factors.
    """

    key: str
    seed: int
    factors: Mapping[str, Level]
    run_id: str
    metrics: Mapping[str, float]
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One epoch (from 1) of one metric of a finished run."""

    key: str
    metric: str
    epoch: int
    value: float


@dataclass(frozen=True)
class EvaluationRow:
    """A FINISHED evaluation of an unchanged variant.

    form to image_size: how its images were read. sha256: hash of the file of weights. top1: a fraction of images.
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

    @property
    def is_imagenet(self) -> bool:
        """Whether it covers ImageNet's whole test set; a part of it is no value for a table."""
        return (self.data, self.split) == ("imagenet", "test") and self.images >= IMAGENET_TEST


@dataclass(frozen=True)
class DeviceRow:
    """A FINISHED run of the experiment device_latency: one model on one device by one protocol.

    statistics: milliseconds by name (min, low, median, average, p90, max), those that the protocol reports. n: count of
    predictions. source: imported or measured. date: YYYY-MM-DD.
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
    """Everything that a report shows of a plan.

    rows: its finished cells and teachers. problems: what is wrong with the record, a sentence each. evaluations and
    devices belong to no plan; studies that compare backbones show them. excluded: ids of the finished runs that
    `mobileone exclude` takes out of reports. examples: PNG files with test images and predictions of cells, by key.
    """

    rows: Sequence[CellRow] = ()
    problems: Sequence[str] = ()
    comparison: Sequence[CellRow] = ()
    curves: Sequence[CurvePoint] = ()
    evaluations: Sequence[EvaluationRow] = ()
    devices: Sequence[DeviceRow] = ()
    excluded: Sequence[str] = ()
    examples: Mapping[str, bytes] = field(default_factory=dict)
