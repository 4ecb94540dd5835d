"""The ledger of the paper's claims: a state for each claim and data set, computed from saved reports.

States: supported and contradicted by the statistics of a report; not resolved, with the difference that would have been
found; unstable, where several reports on the same data disagree; not tested here, with the command that would; report
missing, where the claim's study has no report.
"""

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mobileone_core.reporting.document import Block, Bullets, Column, Paragraph, Section, Table, joined
from mobileone_core.reporting.ledger.claims import NOTES, OPPOSITES, PaperClaim, read_claims
from mobileone_core.reporting.ledger.evidence import ORDER, Evidence, SavedResult, contrast_finding, evidence
from mobileone_core.reporting.ledger.phones import phone_evidence
from mobileone_core.reporting.trained.result import TrainedResult
from mobileone_core.study.least_squares import Contrast

UNSTABLE, UNTESTED, ABSENT, MIXED = "unstable", "not tested here", "report missing", "mixed"
STATES = ("supported", *ORDER[:1], "not resolved", *ORDER[1:3], MIXED, UNSTABLE, UNTESTED, ABSENT)
DECIDES = ("not tested: not trained", "not tested: too few steps", "not resolved", "supported", "contradicted")
FIRST = re.compile(r"table ([1-69]|10)\b")  # the sources of the claims that the README shows
ALL = "All claims"


@dataclass(frozen=True)
class Verdict:
    """The state of a claim on some data, with the evidence; data is empty where there is none."""

    claim: PaperClaim
    data: str
    state: str
    evidence: tuple[Evidence, ...] = ()


def verdicts(results: Sequence[SavedResult], claims: Sequence[PaperClaim] | None = None) -> list[Verdict]:
    """Return the state of every claim on everything it was tested on."""
    rows = []
    for claim in claims or read_claims():
        by_data = defaultdict[str, list[Evidence]](list)
        for item in (*evidence(claim, results), *phone_evidence(claim, results)):
            by_data[item.data].append(item)
        rows += [Verdict(claim, data, combined(items), tuple(items)) for data, items in by_data.items()]
        if not by_data:
            rows.append(Verdict(claim, "", _without_evidence(claim, results)))
    return rows


def combined(items: Sequence[Evidence]) -> str:
    """Return the state of all evidence on the same data: unstable if reports disagree, else what one resolves."""
    states = {item.state for item in items}
    return UNSTABLE if {"supported", "contradicted"} <= states else max(states, key=DECIDES.index)


def _without_evidence(claim: PaperClaim, results: Sequence[SavedResult]) -> str:
    """Missing is the report of a study that would hold evidence in its default setting."""
    is_expected = claim.study and not claim.needs and claim.on in ("", "cpu")
    is_expected = is_expected and claim.test not in ("gain", "evaluation")
    return ABSENT if is_expected and claim.study not in {item.study for item in results} else UNTESTED


def state_counts(rows: Sequence[Verdict]) -> Mapping[str, int]:
    """Return how many claims have each state, in the order of STATES; mixed if data or runtimes differ in theirs."""
    states = ({row.state for row in items} for items in by_claim(rows))
    counts = Counter(min(its) if len(its) == 1 else MIXED for its in states)
    return {state: counts[state] for state in STATES}


def by_claim(rows: Sequence[Verdict]) -> list[list[Verdict]]:
    """Return the verdicts on each claim, in the order of their first ones."""
    groups = defaultdict[str, list[Verdict]](list)
    for row in rows:
        groups[row.claim.id].append(row)
    return [*groups.values()]


def repetitions(results: Sequence[SavedResult], page: str) -> list[str]:
    """Say of each level that is better or worse whether it is so in a report of the same setting without common runs.

    Those are of other seeds, or of another machine. Returns a sentence per level and pair of reports, which begins with
    the first seeds unless only the others show a difference.
    """
    lines = []
    trained = [item for item in results if isinstance(item.result, TrainedResult)]
    trained.sort(key=lambda item: item.result.plan.study.first_seed)
    for one, other in itertools.combinations(trained, 2):
        is_again = one.result.plan.queue == other.result.plan.queue and not one.runs & other.runs
        again = {row.level: row for row in other.result.analysis.comparisons}
        for row in one.result.analysis.comparisons if is_again else ():
            pair = [(one, row), (other, again.get(row.level, row))]
            pair.sort(key=lambda side: side[1].verdict not in OPPOSITES)
            verdict, second = (side[1].verdict for side in pair)
            if verdict in OPPOSITES and row.level in again:
                state = "repeats" if second == verdict else "does not repeat"
                state = UNSTABLE if second == OPPOSITES[verdict] else state
                first, further = (_difference(*side, page) for side in pair)
                lines.append(f"{one.study}, {one.result.level_name(row.level)}: {first}; **{state}**: {further}")
    return lines


def _difference(item: SavedResult, row: Contrast, page: str) -> str:
    """A level's verdict and difference, and the seeds of the report, as a link to it."""
    study = item.result.plan.study
    seeds = f"seeds {study.first_seed} to {study.first_seed + study.seeds - 1}"
    return f"{row.verdict}, {contrast_finding(item.result, row).text} on [{seeds}]({item.report}/{page})"


def ledger_sections(rows: Sequence[Verdict], repeated: Sequence[str], page: str) -> tuple[Section, Section]:
    """Return the counts with what is known of tables 1 to 6, 9 and 10, and all claims; repeated: of `repetitions`."""
    parts = {topic: [row for row in rows if row.claim.is_time == (topic == "time")] for topic in ("accuracy", "time")}
    lead = Paragraph(" ".join(_counted(topic, of) for topic, of in parts.items() if of))
    blocks: list[Block] = [lead, short_table(rows, page)]
    if repeated:
        blocks += [Paragraph("Differences that were trained again:"), Bullets(repeated)]
    all_claims = Section(ALL, (claims_table(rows, page), Bullets(NOTES)))
    return Section("What holds of the paper", blocks), all_claims


def short_table(rows: Sequence[Verdict], page: str) -> Table:
    """Return the claims of FIRST that a report tests; those that none tests are counted, by table and topic."""
    tables = defaultdict[str, list[Verdict]](list)
    for row in rows:
        if match := FIRST.match(row.claim.source):
            tables[match[0]].append(row)
    lines, target = list[tuple[str, ...]](), f"{page}#{ALL.lower().replace(' ', '-')}"
    for name, items in tables.items():
        lines += claims_table([row for row in items if row.evidence], page).rows
        others = Counter((row.claim.topic, row.state) for row in items if not row.evidence)
        for (topic, state), count in others.items():
            claims = f"{count} claim{'s' * (count > 1)} {topic}"
            lines.append((name, claims, "", f"{state}: [claims and commands]({target})"))
    return replace(claims_table((), page), rows=tuple(lines))


def _counted(topic: str, rows: Sequence[Verdict]) -> str:
    """The claims on a topic by state: **3 claims on time:** 2 supported and 1 mixed."""
    counts = state_counts(rows)
    texts = joined([f"{count} {state}" for state, count in counts.items() if count])
    return f"**{sum(counts.values())} claims of the paper on {topic}:** {texts}."


def claims_table(rows: Sequence[Verdict], page: str) -> Table:
    """Return a row per claim: source, claim, what the paper prints, and every verdict with its evidence."""
    columns = tuple(Column(head, is_text=True) for head in ("paper", "claim", "published", "here"))
    lines = []
    for items in by_claim(rows):
        claim, here = items[0].claim, ". ".join(verdict_text(item, page) for item in items)
        lines.append((claim.source, claim.text, claim.published_text, here))
    return Table(columns, tuple(lines), labels=2)


def verdict_text(row: Verdict, page: str) -> str:
    """Return a verdict as a sentence: **supported** by [tiny on digits](branch_count/README.md): +1.02 points [...]."""
    command = f"python studies/{row.claim.study}.py" if row.state == ABSENT else row.claim.test_command
    if not row.evidence:
        return f"**{row.state}**" + (f": `{command}`" if command else "; no study tests it")
    if len({item.state for item in row.evidence}) == 1:
        texts = [f"{_link(item, page)}: {item.text}{_machine(row, item)}" for item in row.evidence]
    else:
        texts = [f"{item.state} ({_link(item, page)}, {item.machine}): {item.text}" for item in row.evidence]
    return f"**{row.state}**, {'; '.join(texts)}"


def _link(item: Evidence, page: str) -> str:
    return f"[{item.data}]({item.report}/{page})"


def _machine(row: Verdict, item: Evidence) -> str:
    """The processor of a time, and those of several reports."""
    return f" ({item.machine})" if row.claim.test in ("time", "correlation") or len(row.evidence) > 1 else ""
