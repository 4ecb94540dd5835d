"""Plans of either kind, as whoever keeps, runs or reads them takes them."""

import json
from collections.abc import Mapping
from typing import Any

from mobileone_core.study.measured import MARK, MeasuredPlan
from mobileone_core.study.plan import Plan, PlannedComparison
from mobileone_core.study.search_plan import SEARCH, SearchPlan

AnyPlan = Plan | MeasuredPlan | SearchPlan


def shows_other_runs(plan: AnyPlan) -> bool:
    """Whether its report shows runs of no plan: evaluations, and latencies on devices."""
    return isinstance(plan, MeasuredPlan) and plan.study.view == "backbones"


def read_plan(text: str) -> AnyPlan:
    """A plan as recorded; InputError where another version wrote it."""
    content: Mapping[str, Any] = json.loads(text)
    kinds: Mapping[str, type[AnyPlan]] = {MARK: MeasuredPlan, SEARCH: SearchPlan}
    return kinds.get(content.get("plan", ""), Plan).from_json(text)


def comparisons_of(plan: AnyPlan) -> tuple[PlannedComparison, ...]:
    """All that a plan measures side by side, in its order."""
    if isinstance(plan, SearchPlan):
        return plan.comparisons
    return (plan.comparison,) if plan.comparison else ()


def is_whole(plan: AnyPlan) -> bool:
    """Whether its cells are all that it will have: a search proposes until its front is known."""
    return not isinstance(plan, SearchPlan) or bool(plan.confirmed)
