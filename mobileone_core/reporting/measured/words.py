"""What a measured study found, in sentences and in the cells of a table. No torch here."""

from collections.abc import Sequence
from dataclasses import replace

from mobileone_core.benchmark.protocol import PROTOCOLS, Protocol
from mobileone_core.benchmark.samples import Estimate
from mobileone_core.reporting.measured.published import published_of, published_ratio, published_value
from mobileone_core.reporting.measured.result import ALIKE, MeasuredArm, MeasuredResult, is_near
from mobileone_core.reporting.trained.effects import joined
from mobileone_core.reporting.trained.forms import HEAD, LIMIT
from mobileone_core.reporting.trained.result import told
from mobileone_core.reporting.trained.words import MISSING, Table
from mobileone_core.study.factor import level_text

TRIMMED = (("low", "ms, trimmed"), ("average", "ms, trimmed"))
RANKS = ("dynamic_relu_a", "dynamic_relu_a_rank5")


def setting(result: MeasuredResult) -> str:
    """Protocol and size: 20 rounds of 4 calls, 224 px, batch 1."""
    protocol, base = result.plan.spec.protocol, result.plan.study.base
    turns = f"{protocol.rounds} rounds of {calls(protocol.burst)}"
    return f"protocol {protocol_name(protocol)}, {turns}, {base.size_text}"


def calls(number: int) -> str:
    return "1 call" if number == 1 else f"{number} calls"


def protocol_name(protocol: Protocol) -> str:
    """The preset that a protocol is but for its number of rounds and its seed; else what it does."""
    for name, preset in PROTOCOLS.items():
        if replace(protocol, rounds=preset.rounds, seed=preset.seed) == preset:
            return name
    kind = "every model reloaded each round" if protocol.reload else "interleaved"
    trimmed = f", {protocol.trim} lowest and highest of a round trimmed" if protocol.trim else ""
    return f"of its own ({kind}{trimmed})"


def number(value: float | None, digits: str = "#.3g") -> str:
    """Three digits and more."""
    return MISSING if value is None else format(value, digits if abs(value) < 1000 else ",.0f").rstrip(".")


def interval(found: Estimate | None, digits: str = "#.3g") -> str:
    """A value with its interval."""
    if found is None:
        return MISSING
    value, low, high = (number(item, digits) for item in (found.value, found.low, found.high))
    return value if found.low == found.high else f"{value} [{low}, {high}]"


def count(value: float | None) -> str:
    return MISSING if value is None else f"{value:,.0f}"


def levels_table(result: MeasuredResult) -> Table:
    """A row an arm; what is not measured is "-"."""
    has_published = bool(published_of(result))
    columns = [
        *((factor.name, "") for factor in result.plan.study.factors),
        ("parameters", ""),
        ("multiply-adds", "one image"),
        ("measured median, ms", "[95 % over rounds]"),
        ("minimum", "ms"),
        ("p90", "ms"),
        *(TRIMMED if result.plan.spec.protocol.trim else ()),
        ("ratio to its reference", "[95 %]"),
        ("verdict", "against its reference"),
        ("n", "rounds"),
    ]
    published = [("published, iPhone 12", "ms, minimum"), ("published ratio", "to published ReLU")]
    rows = []
    for item in result.arms:
        printed = published_value(result, item)
        beside = (printed.printed if printed else MISSING, number(published_ratio(result, item), ".2f"))
        rows.append((*_row(result, item), *(beside if has_published else ())))
    return Table((*columns, *(published if has_published else ())), tuple(rows))


def _row(result: MeasuredResult, item: MeasuredArm) -> tuple[str, ...]:
    protocol = result.plan.spec.protocol
    return (
        *(level_text(level) for level in item.arm.factors.values()),
        count(item.metric("params")),
        count(item.metric("macs")),
        interval(item.estimate("latency/median", "_ms")),
        number(item.metric("latency/min_ms")),
        number(item.metric("latency/p90_ms")),
        *(number(item.metric(f"latency/{name}_ms")) for name in ("low", "average") if protocol.trim),
        interval(item.ratio, ".2f"),
        result.verdict(item) if not item.unmeasured else "not measured",
        MISSING if item.unmeasured else str(protocol.rounds),
    )


def place(result: MeasuredResult) -> str:
    """Device and processor: cpu, Any CPU."""
    tags = [told(item.row) for item in result.measured if item.row]
    return ", ".join(" / ".join(sorted({tag[name] for tag in tags if name in tag})) for name in HEAD)


def control_words(result: MeasuredResult) -> str:
    """Whether the references timed twice agreed with themselves."""
    controls = result.controls
    known = [value for value in controls.values() if value is not None]
    if not controls:
        return ""
    if len(known) < len(controls):
        return "**There is no A/A control of every reference; how far the machine was at rest is not known.**"
    span = f"ratios {min(known):.3f} to {max(known):.3f}" if len(known) > 1 else f"ratio {known[0]:.3f}"
    if all(map(is_near, known)):
        return f"A/A control within {LIMIT} ({span})."
    return f"**A/A control not within {LIMIT} ({span}): the machine was not at rest, do not trust what refers to it.**"


def levels_sentences(result: MeasuredResult) -> list[str]:
    """The ratios in their order a runtime, the two forms of Dynamic ReLU, and the control."""
    if not result.measured:
        return ["Nothing is measured yet."]
    parts = [f"Measured on {place(result)}."]
    for runtime in result.runtimes:
        own = [item for item in result.measured if result.runtime_of(item) == runtime and item.ratio]
        if own:
            parts.append(f"{runtime}: {'; '.join(_grouped(result, own))}.")
            parts += _layout(own)
    parts.append(control_words(result))
    gaps = len(result.arms) - len(result.measured)
    parts += [f"Not measured: {gaps} of {len(result.arms)} arms."] if gaps else []
    return [part for part in parts if part]


def _grouped(result: MeasuredResult, own: Sequence[MeasuredArm]) -> list[str]:
    """Arms by verdict, ratios rising: slower silu 1.07, gelu 1.06."""
    kinds: dict[str, list[str]] = {}
    for item in sorted(own, key=lambda item: item.ratio.value if item.ratio else 0.0):
        ratio = item.ratio.value if item.ratio else 0.0
        kinds.setdefault(result.verdict(item), []).append(f"{result.name_of(item)} {ratio:.2f}")
    rounds = result.plan.spec.protocol.rounds
    words = {
        ALIKE: f"no difference that {rounds} rounds show",
        "not judged: control": "not judged, for the control did not hold",
    }
    return [f"{words.get(kind, kind)}: {joined(names)}" for kind, names in kinds.items()]


def _layout(own: Sequence[MeasuredArm]) -> list[str]:
    found = {str(level): item for item in own for level in item.arm.factors.values() if str(level) in RANKS}
    rank4, usual = (found[name].ratio if name in found else None for name in RANKS)
    if rank4 is None or usual is None:
        return []
    told_ratios = f"Dynamic ReLU A costs {usual.value:.2f} times ReLU in its usual, transposed form"
    ends = f"and {rank4.value:.2f} times as maps of rank 4"
    if usual.low <= rank4.high:
        return [f"{told_ratios} {ends}."]
    return [f"{told_ratios} {ends}: the published cost is much a matter of layout."]
