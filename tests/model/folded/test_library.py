"""The library of compiled operators: built once, or not there."""

import tempfile
from pathlib import Path

import pytest
import torch

from mobileone_core.model.folded.native import quadratic as native
from mobileone_core.model.folded.native.library import available, library

compiler = pytest.mark.skipif(not available(), reason="no C compiler")


def library_with(monkeypatch, **environment):
    """The library as a machine with such an environment has it."""
    for name, value in environment.items():
        monkeypatch.setenv(name, str(value))
    return library.__wrapped__()


@pytest.mark.parametrize("path", ["/bin/false", "/no/such/compiler", "/bin/true"])
def test_a_compiler_that_fails_leaves_the_plain_way_and_nothing_else(path, tmp_path, monkeypatch):
    assert library_with(monkeypatch, CC=path, XDG_CACHE_HOME=tmp_path) is None
    assert not [item for item in tmp_path.rglob("*") if item.is_file()]


@pytest.mark.slow
@compiler
def test_it_is_built_once_and_where_nothing_can_be_kept_each_time(tmp_path, monkeypatch):
    assert library_with(monkeypatch, XDG_CACHE_HOME=tmp_path)
    (built,) = tmp_path.rglob("*.so")
    made = built.stat().st_mtime_ns
    assert library_with(monkeypatch, XDG_CACHE_HOME=tmp_path)
    assert built.stat().st_mtime_ns == made
    assert library_with(monkeypatch, XDG_CACHE_HOME="/dev/null/nowhere")
    built.write_bytes(b"")  # a cache that cannot hold it, such as one without the right to execute, fails likewise
    assert library_with(monkeypatch, XDG_CACHE_HOME=tmp_path)


@pytest.mark.slow
@compiler
def test_where_there_is_no_user_it_is_built_all_the_same_and_leaves_nothing(tmp_path, monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert library_with(monkeypatch)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@compiler
def test_a_compiler_may_come_with_options(tmp_path, monkeypatch):
    assert library_with(monkeypatch, CC="cc -O1", XDG_CACHE_HOME=tmp_path)


@compiler
@pytest.mark.parametrize("wrong", [torch.zeros(1, 1, 9).double(), torch.zeros(1, 1, 9, device="meta")])
def test_only_float32_on_the_cpu_reaches_the_library(wrong):
    with pytest.raises(TypeError, match=r"a tensor of torch\.float32 with data on the CPU is needed"):
        native.kernel([wrong], torch.zeros(1, 1, 1))
