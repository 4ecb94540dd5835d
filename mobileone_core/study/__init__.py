"""The names that study files import: kinds of studies, factors, and the cells and protocol of measured studies."""

from mobileone_core.benchmark.protocol import Protocol
from mobileone_core.benchmark.spec import StepCell
from mobileone_core.latency.cell import Chain, LatencyCell
from mobileone_core.latency.zoo import TABLE_9
from mobileone_core.study.declaration import Factor, Study
from mobileone_core.study.measured import MeasuredStudy
from mobileone_core.study.search import SearchStudy

__all__ = ["TABLE_9", "Chain", "Factor", "LatencyCell", "MeasuredStudy", "Protocol", "SearchStudy", "StepCell", "Study"]
