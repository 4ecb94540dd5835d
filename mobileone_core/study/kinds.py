"""The kinds of studies: which plan a declaration resolves to, and which options its command line has.

To add a kind, subclass Declaration and Plan, write its StudyOptions, and register options and plan here. How
its plans are reported is registered in reporting/report.py.
"""

import functools
import json
from collections.abc import Callable
from typing import Any

from mobileone_core.errors import refusing, require_choice
from mobileone_core.study.declaration import Declaration, Study
from mobileone_core.study.grid import GridOptions, GridPlan
from mobileone_core.study.measured import MeasuredOptions, MeasuredPlan, MeasuredStudy
from mobileone_core.study.options import StudyOptions
from mobileone_core.study.plan import Plan
from mobileone_core.study.search import SearchStudy
from mobileone_core.study.search_plan import SearchOptions, SearchPlan

OPTIONS: dict[type[Declaration], Callable[[Any], StudyOptions]] = {
    Study: GridOptions,
    MeasuredStudy: MeasuredOptions,
    SearchStudy: SearchOptions,
}
PLANS: dict[str, type[Plan]] = {plan.kind: plan for plan in (GridPlan, MeasuredPlan, SearchPlan)}


def options_of(study: Declaration) -> StudyOptions:
    """The command line of a study."""
    return next(options(study) for kind, options in OPTIONS.items() if isinstance(study, kind))


@functools.lru_cache(maxsize=64)  # a command reads the same plan several times, and its cells take long to make
@refusing("plan: written by another version")
def read_plan(text: str) -> Plan:
    """A recorded plan of any kind. Raises InputError if another version wrote it."""
    content = json.loads(text)
    name = content.get("plan", GridPlan.kind)
    require_choice("plan", name, PLANS)
    return PLANS[name].from_content(content)
