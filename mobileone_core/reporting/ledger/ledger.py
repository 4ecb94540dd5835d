"""The ledger of the paper's claims: a state for each claim and data set, computed from saved reports.

States: supported and contradicted by the statistics of a report; not resolved, with the difference that would have been
found; unstable, where several reports on the same data disagree; not tested here, with the command that would; report
missing, where the claim's study has no report.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mobileone_core.reporting.document import Block, Bullets, Column, Paragraph, Section, Table, joined
from mobileone_core.reporting.ledger.claims import PaperClaim, read_claims
from mobileone_core.reporting.ledger.evidence import Evidence, SavedResult, evidence

UNSTABLE, UNTESTED, ABSENT = "unstable", "not tested here", "report missing"
STATES = ("supported", "contradicted", "not resolved", UNSTABLE, UNTESTED, ABSENT)
FIRST = re.compile(r"table ([1-69]|10)\b")  # the sources of the claims that the README shows
NOTES = (
    "*Here*: one verdict per claim and data set, or runtime and device; computed from the reports, never typed. "
    "Supported and contradicted are verdicts of the report's statistics; *not resolved* comes with the difference that "
    "would have been found with 80 % power, or with the tolerance of times.",
    "*Unstable*: reports on the same data disagree. Other networks, data and processors than the paper's are no "
    "repetition of its numbers: they say whether a claim carries over.",
    "*Thresholds* of the claims on correlations and on dynamic activations are ours; the paper says it in sentences.",
)


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
        for item in evidence(claim, results):
            by_data[item.data].append(item)
        rows += [Verdict(claim, data, combined(items), tuple(items)) for data, items in by_data.items()]
        if not by_data:
            rows.append(Verdict(claim, "", _without_evidence(claim, results)))
    return rows


def combined(items: Sequence[Evidence]) -> str:
    """Return the state that all evidence on the same data shares, or unstable."""
    states = {item.state for item in items}
    return states.pop() if len(states) == 1 else UNSTABLE


def _without_evidence(claim: PaperClaim, results: Sequence[SavedResult]) -> str:
    """Missing is the report of a study that would hold evidence in its default setting."""
    is_expected = claim.study and not claim.needs and claim.test not in ("gain", "evaluation")
    return ABSENT if is_expected and claim.study not in {item.study for item in results} else UNTESTED


def state_counts(rows: Sequence[Verdict]) -> Mapping[str, int]:
    """Return how many verdicts have each state, in the order of STATES."""
    counts = Counter(row.state for row in rows)
    return {state: counts[state] for state in STATES}


def ledger_sections(rows: Sequence[Verdict], page: str) -> tuple[Section, Section]:
    """Return the counts with the claims of tables 1 to 6, 9 and 10, and the other claims; page: a report's file."""
    claims = dict.fromkeys(row.claim.id for row in rows)
    counts = joined([f"{count} {state}" for state, count in state_counts(rows).items() if count])
    first = [row for row in rows if FIRST.match(row.claim.source)]
    lead = Paragraph(f"**{len(claims)} claims of the paper, {len(rows)} verdicts:** {counts}.")
    others = [row for row in rows if row not in first]
    blocks: list[Block] = [lead, claims_table(first, page)]
    return (
        Section("What holds of the paper", blocks),
        Section("Further claims", (claims_table(others, page), Bullets(NOTES))),
    )


def claims_table(rows: Sequence[Verdict], page: str) -> Table:
    """Return a row per claim: source, claim, what the paper prints, and every verdict with its evidence."""
    by_claim = defaultdict[str, list[Verdict]](list)
    for row in rows:
        by_claim[row.claim.id].append(row)
    heads = ("paper", "claim", "published", "here")
    columns = tuple(Column(head, is_text=True) for head in heads)
    lines = []
    for items in by_claim.values():
        claim, here = items[0].claim, ". ".join(verdict_text(item, page) for item in items)
        lines.append((claim.source, claim.text, claim.published_text, here))
    return Table(columns, tuple(lines), labels=2)


def verdict_text(row: Verdict, page: str) -> str:
    """Return a verdict as a sentence: **supported** by [tiny on digits](branch_count/README.md): +1.02 points [...]."""
    if row.state == UNTESTED:
        return f"**{row.state}**" + (
            f": `{row.claim.test_command}`" if row.claim.test_command else "; no study tests it"
        )
    if row.state == ABSENT:
        return f"**{row.state}**: `python studies/{row.claim.study}.py`"
    if row.state != UNSTABLE:
        texts = [f"{_link(item, page)}: {item.text}{_machine(row, item)}" for item in row.evidence]
        return f"**{row.state}**, {'; '.join(texts)}"
    texts = [f"{item.state} ({_link(item, page)}, {item.machine}): {item.text}" for item in row.evidence]
    return f"**{row.state}**, {'; '.join(texts)}"


def _link(item: Evidence, page: str) -> str:
    return f"[{item.data}]({item.report}/{page})"


def _machine(row: Verdict, item: Evidence) -> str:
    """The processor of a time, and those of several reports."""
    return f" ({item.machine})" if row.claim.test in ("time", "correlation") or len(row.evidence) > 1 else ""
