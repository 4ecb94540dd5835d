"""The ablation studies of MobileOne (CVPR 2023): the network, its training, its studies and their tables."""

import importlib
import importlib.util
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mobileone_core.cli import run as run
    from mobileone_core.model.cost import model_cost as model_cost
    from mobileone_core.model.network import build_model as build_model
    from mobileone_core.model.reparam import expand as expand
    from mobileone_core.model.reparam import expansion_plan as expansion_plan
    from mobileone_core.model.reparam import fold as fold
    from mobileone_core.model.reparam import reparameterize as reparameterize
    from mobileone_core.model.spec import ModelSpec as ModelSpec
    from mobileone_core.model.weights import export_weights as export_weights
    from mobileone_core.model.weights import load_weights as load_weights
    from mobileone_core.reporting.results import results as results
    from mobileone_core.study.record.loading import load_run as load_run

_HOMES = {
    "ModelSpec": "mobileone_core.model.spec",
    "build_model": "mobileone_core.model.network",
    "reparameterize": "mobileone_core.model.reparam",
    "expand": "mobileone_core.model.reparam",
    "expansion_plan": "mobileone_core.model.reparam",
    "fold": "mobileone_core.model.reparam",
    "load_run": "mobileone_core.study.record.loading",
    "results": "mobileone_core.reporting.results",
    "load_weights": "mobileone_core.model.weights",
    "export_weights": "mobileone_core.model.weights",
    "model_cost": "mobileone_core.model.cost",
    "run": "mobileone_core.cli",
}
__all__ = list(_HOMES)

_PREFIX = "module://"
_BACKEND = os.environ.get("MPLBACKEND", "")  # a notebook's, which may be missing here, would end all matplotlib imports
if _BACKEND.startswith(_PREFIX) and not importlib.util.find_spec(_BACKEND.removeprefix(_PREFIX).partition(".")[0]):
    del os.environ["MPLBACKEND"]


def __getattr__(name: str) -> object:
    """Import a public name when it is first used: torch takes seconds."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
