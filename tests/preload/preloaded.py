"""Imports for the tests' fork server before it forks: all that workers, planners and exports need."""

import functools
import gc

import alembic.command  # noqa: F401
import mlflow.store.tracking.sqlalchemy_workspace_store  # noqa: F401
import onnxruntime  # noqa: F401
import optuna.storages._rdb.models  # noqa: F401
import pytest  # noqa: F401
import sqlalchemy.dialects.sqlite  # noqa: F401
from torch.onnx._internal.exporter import _registration

import mobileone_core.benchmark.measure
import mobileone_core.study.run.planner
import mobileone_core.study.run.worker
import mobileone_core.training.run  # noqa: F401

registry = _registration.ONNXRegistry
registry.from_torchlib = staticmethod(functools.cache(registry.from_torchlib))  # one second per exported network
gc.freeze()  # a collection in a child would copy these pages
