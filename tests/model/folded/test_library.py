"""The library of compiled operators: built once, or not there."""

import pytest

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


@compiler
def test_it_is_built_once_and_where_nothing_can_be_kept_each_time(tmp_path, monkeypatch):
    assert library_with(monkeypatch, XDG_CACHE_HOME=tmp_path)
    (built,) = tmp_path.rglob("*.so")
    made = built.stat().st_mtime_ns
    assert library_with(monkeypatch, XDG_CACHE_HOME=tmp_path)
    assert built.stat().st_mtime_ns == made
    assert library_with(monkeypatch, XDG_CACHE_HOME="/dev/null/nowhere")
