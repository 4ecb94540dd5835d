"""One finished cell as the record tells it."""

from collections.abc import Mapping
from dataclasses import dataclass

from mobileone_core.study.declaration import Level


@dataclass(frozen=True)
class CellRow:
    """A FINISHED run: accuracies are fractions, times seconds. environment holds the tags that say where and how
    (device, processor, threads, versions, git revision)."""

    key: str
    seed: int
    factors: Mapping[str, Level]
    run_id: str
    metrics: Mapping[str, float]
    environment: Mapping[str, str]
