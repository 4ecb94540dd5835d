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
    "cli": ("run",),
    "model.cost": ("model_cost",),
    "model.network": ("build_model",),
    "model.reparam": ("expand", "expansion_plan", "fold", "reparameterize"),
    "model.spec": ("ModelSpec",),
    "model.weights": ("export_weights", "load_weights"),
    "reporting.results": ("results",),
    "study.record.loading": ("load_run",),
}
__all__ = [name for names in _HOMES.values() for name in names]

_PREFIX = "module://"
_BACKEND = os.environ.get("MPLBACKEND", "")  # a notebook's, which may be missing here, would end all matplotlib imports
if _BACKEND.startswith(_PREFIX) and not importlib.util.find_spec(_BACKEND.removeprefix(_PREFIX).partition(".")[0]):
    del os.environ["MPLBACKEND"]


def __getattr__(name: str) -> object:
    """Import a public name when it is first used: torch takes seconds."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
