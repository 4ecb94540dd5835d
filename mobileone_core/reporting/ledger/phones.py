"""Evidence from phones: latencies that `mobileone latency import` or `run` recorded, kept in a report's devices.csv.

Networks are compared within a setting: device, OS, compute units, precision and protocol. A claim's level is a model's
name: mobileone_s0, or gelu for the 30-layer network with that activation (`--title gelu`). Train forms do not count.
"""

import itertools
import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

from mobileone_core.benchmark.samples import Estimate
from mobileone_core.reporting.devices import UNITS
from mobileone_core.reporting.environment import is_within_tolerance
from mobileone_core.reporting.ledger.claims import PaperClaim
from mobileone_core.reporting.ledger.evidence import Evidence, Finding, SavedResult, against, conclusion
from mobileone_core.reporting.measured import table9
from mobileone_core.reporting.measured.correlation import COSTS, Correlation, measured_correlations, spearman
from mobileone_core.reporting.measured.result import ALIKE, MeasuredResult
from mobileone_core.reporting.measured.view import estimate_text
from mobileone_core.study.factor import Level
from mobileone_core.study.rows import DeviceRow

STATISTICS = ("min", "low", "median", "average")  # the first that a setting reports is compared; the paper's is min
PRECISION = "float16"  # of a package without a manifest: Core ML's default

Times = Mapping[str, Sequence[float]]  # the milliseconds of each run, by model


def phone_evidence(claim: PaperClaim, results: Sequence[SavedResult]) -> list[Evidence]:
    """Return what the phones in reports say of a claim on time; nothing where a network of it was not measured."""
    rows = []
    for item in results if claim.on in ("", "phone") and claim.test in TESTS else ():
        for data, protocol, statistic, times in _settings(getattr(item.result, "devices", ())):
            findings = TESTS[claim.test](claim, item.result, times, statistic)
            if findings and len(findings) == max(1, len(claim.levels)):
                rows.append(Evidence(item.report, data, f"protocol {protocol}", *conclusion(claim, findings)))
    return rows


def _settings(devices: Sequence[DeviceRow]) -> Iterator[tuple[str, str, str, Times]]:
    """Setting as text, protocol, statistic, and the times of its models."""
    settings = defaultdict[tuple[str, ...], list[DeviceRow]](list)
    for row in devices:
        if row.form != "train" and not row.os.startswith("macOS"):
            units, precision = UNITS.get(row.compute_units, row.compute_units), row.precision or PRECISION
            settings[f"{row.device}, {row.os}, {units}, {precision}", row.protocol].append(row)
    for (data, protocol), rows in sorted(settings.items()):
        statistic = next((name for name in STATISTICS if any(name in row.statistics for row in rows)), "")
        times = defaultdict[str, list[float]](list)
        for row in rows:
            if statistic in row.statistics:
                times[row.model].append(row.statistics[statistic])
        yield data, protocol, statistic, times


def _name(level: Mapping[str, Level]) -> str:
    return str(next(iter(level.values()), ""))


def _time(claim: PaperClaim, _: MeasuredResult, times: Times, statistic: str) -> list[Finding]:
    """Ratios over all pairs of runs, judged as those of other devices: a difference of 3 % or less is none."""
    findings, base = [], times.get(_name(claim.base), ())
    for name in map(_name, claim.levels):
        ratios = sorted(one / other for one, other in itertools.product(times.get(name, ()), base))
        if ratios:
            ratio = Estimate(statistics.median(ratios), ratios[0], ratios[-1])
            is_alike = is_within_tolerance(ratio.value) or ratio.low <= 1 <= ratio.high
            verdict = ALIKE if is_alike else "slower" if ratio.value > 1 else "faster"
            verdict = verdict if claim.than is None else against(claim.than, ratio)
            text = f"{f'{name} ' if len(claim.levels) > 1 else ''}{estimate_text(ratio)} times, {statistic}"
            findings.append(Finding(verdict, text, distance=abs(ratio.value - (claim.than or 1.0))))
    return findings


def _milliseconds(claim: PaperClaim, _: MeasuredResult, times: Times, statistic: str) -> list[Finding]:
    values = [sorted(times.get(_name(level), ())) for level in claim.levels]
    spans = [Estimate(statistics.median(its), its[0], its[-1]) for its in values if its]
    return [Finding(against(claim.than or 0.0, its), f"{estimate_text(its)} ms, {statistic}") for its in spans]


def _correlation(claim: PaperClaim, result: MeasuredResult, times: Times, _: str) -> list[Finding]:
    """Spearman's rank correlation with a cost over those of table 1's networks that were measured."""
    value, names = _phone_correlation(claim, result, times)
    if value.rho is None or value.low is None or value.high is None:
        return []
    verdict = against(claim.than or 0.0, Estimate(value.rho, value.low, value.high))
    return [Finding(verdict, f"{value.rho_text} over {value.n} of {len(names)} networks")]


def _correlation_gap(claim: PaperClaim, result: MeasuredResult, times: Times, _: str) -> list[Finding]:
    """The CPU's correlation minus the phone's, with Zou's interval (2007) for independent correlations."""
    phone, names = _phone_correlation(claim, result, times)
    for runtime in result.runtimes:
        cpu = measured_correlations(result, runtime, names)[list(COSTS).index(claim.metric)]
        bounds = [value for item in (cpu, phone) for value in (item.rho, item.low, item.high)]
        if None not in bounds:
            rho, low, high, other, least, most = (float(value or 0.0) for value in bounds)
            below, above = math.hypot(rho - low, most - other), math.hypot(high - rho, other - least)
            value = Estimate(rho - other, rho - other - below, rho - other + above)
            text = f"{value.value:+.2f} [{value.low:+.2f}, {value.high:+.2f}]: {rho:.2f} in {runtime}, {other:.2f} here"
            return [Finding(against(0.0, value), text)]
    return []


def _phone_correlation(claim: PaperClaim, result: MeasuredResult, times: Times) -> tuple[Correlation, set[str]]:
    """The correlation over networks whose cost the report has, and the names of table 1's networks."""
    names = {str(row["model"]) for row in table9.figure2_models()}
    costs = {item.network: item.metric(claim.metric) for item in result.entries}
    pairs = [(statistics.median(times[name]), cost) for name, cost in costs.items()
             if cost is not None and name in times and table9.paper_name(name) in names]  # fmt: skip
    return spearman([time for time, _ in pairs], [cost for _, cost in pairs]), names


TESTS: Mapping[str, Callable[[PaperClaim, MeasuredResult, Times, str], list[Finding]]] = {
    "time": _time,
    "milliseconds": _milliseconds,
    "correlation": _correlation,
    "correlation_gap": _correlation_gap,
}
