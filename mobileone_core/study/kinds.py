"""The kinds of studies: which plan a declaration resolves to, and which options its command line has.

To add a kind, subclass Declaration and Plan, write its StudyOptions, and register the three here. How its plans are
reported is registered in reporting/report.py.
"""

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mobileone_core.errors import refusing, require_choice
from mobileone_core.study.declaration import Declaration, Study
from mobileone_core.study.grid import GridOptions, GridPlan
from mobileone_core.study.measured import MeasuredOptions, MeasuredPlan, MeasuredStudy
from mobileone_core.study.options import StudyOptions
from mobileone_core.study.plan import Plan
from mobileone_core.study.search import SearchStudy
from mobileone_core.study.search_plan import SearchOptions, SearchPlan


@dataclass(frozen=True)
class StudyKind:
    """A kind of study: its declaration, its plan, and a function that makes the options of one study."""

    study: type[Declaration]
    plan: type[Plan]
    options: Callable[[Any], StudyOptions]


KINDS = [
    StudyKind(Study, GridPlan, GridOptions),
    StudyKind(MeasuredStudy, MeasuredPlan, MeasuredOptions),
    StudyKind(SearchStudy, SearchPlan, SearchOptions),
]


def options_of(study: Declaration) -> StudyOptions:
    """The command line of a study."""
    return next(kind.options(study) for kind in KINDS if isinstance(study, kind.study))


def default_plan(study: Declaration) -> Plan:
    """The plan of a study with no option changed."""
    return options_of(study).default_plan()


@functools.lru_cache(maxsize=64)  # a command reads the same plan several times, and its cells take long to make
@refusing("plan: written by another version")
def read_plan(text: str) -> Plan:
    """A recorded plan of any kind. Raises InputError if another version wrote it."""
    plans = {kind.plan.kind: kind.plan for kind in KINDS}
    content = json.loads(text)
    name = content.get("plan", GridPlan.kind)
    require_choice("plan", name, plans)
    return plans[name].from_content(content)
