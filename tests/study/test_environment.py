"""The tags of a run about the machine it ran on."""

import platform
import subprocess

import pytest

from mobileone_core.study import environment
from mobileone_core.training.execution import Execution


@pytest.fixture
def on_mac(monkeypatch):
    """A Mac whose sysctl does what it is given."""

    def give(sysctl):
        def run(command, **_):
            assert command == ("sysctl", "-n", "machdep.cpu.brand_string")
            return sysctl()

        monkeypatch.setattr(platform, "system", lambda: "Darwin")
        monkeypatch.setattr(platform, "machine", lambda: "arm64")
        monkeypatch.setattr(subprocess, "run", run)

    environment.processor.cache_clear()
    yield give
    environment.processor.cache_clear()


def missing():
    raise FileNotFoundError("sysctl")


@pytest.mark.parametrize(
    ("sysctl", "name"),
    [
        (lambda: subprocess.CompletedProcess((), 0, "Apple M2 Pro\n", ""), "Apple M2 Pro"),
        (lambda: subprocess.CompletedProcess((), 1, "", "unknown oid"), "arm64"),
        (missing, "arm64"),
    ],
    ids=["named", "unknown", "no sysctl"],
)
def test_a_macs_processor_is_what_sysctl_calls_it(on_mac, sysctl, name):
    on_mac(sysctl)
    assert environment.processor() == name


@pytest.mark.parametrize(
    ("execution", "said"),
    [
        (Execution("cpu"), "auto blocks"),
        (Execution("cpu", compile=True, blocks="branches"), "compile, branches blocks"),
        (Execution("cpu", compile=True, processes=2), "compile, auto blocks, 2 processes"),
    ],
)
def test_how_a_cell_ran_is_said(execution, said):
    assert environment.environment_tags(execution)["execution"] == said
