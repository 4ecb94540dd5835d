"""A file is the old one or the new one, and the new one is on the disk before anything relies on it."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mobileone_core.errors import InputError
from mobileone_core.files import expanded, read_text, write_whole


def test_the_file_is_flushed_before_its_rename_and_the_directory_after(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_text("old")
    flushed, fsync, directory = [], os.fsync, tmp_path.stat().st_ino

    def note(descriptor):
        inode = os.fstat(descriptor).st_ino
        fresh = [item.read_text() for item in tmp_path.iterdir() if item.stat().st_ino == inode]
        flushed.append(("directory" if inode == directory else fresh, path.read_text()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    write_whole(path, lambda aside: aside.write_text("new"))
    assert flushed == [(["new"], "old"), ("directory", "new")]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("step", ["write", "flush"])
def test_an_interrupted_write_leaves_the_old_file_alone(tmp_path, monkeypatch, error, step):
    path = tmp_path / "file"
    path.write_text("old")

    def fail(*_):
        raise error

    def half(aside):
        aside.write_text("ne")
        if step == "write":
            fail()

    if step == "flush":
        monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(type(error)):
        write_whole(path, half)
    assert {item.name: item.read_text() for item in tmp_path.iterdir()} == {"file": "old"}


def test_an_error_names_the_file_and_not_its_temporary_name(tmp_path):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "folder").mkdir()
    for path, write, kind in [
        (tmp_path / "file", full, OSError),
        (tmp_path / "missing" / "file", Path.touch, FileNotFoundError),
        (tmp_path / "folder", Path.touch, IsADirectoryError),
    ]:
        with pytest.raises(kind) as failed:
            write_whole(path, write)
        assert failed.value.filename == str(path)
        assert failed.value.filename2 is None
    with pytest.raises(OSError, match="source is unreadable"):
        write_whole(tmp_path / "file", lambda _: (tmp_path / "source is unreadable").read_text())


def test_a_file_system_that_cannot_flush_directories_is_written_to(tmp_path, monkeypatch):
    fsync, directory = os.fsync, tmp_path.stat().st_ino

    def refuse(descriptor):
        if os.fstat(descriptor).st_ino == directory:
            raise OSError(22, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)
    write_whole(tmp_path / "file", lambda aside: aside.write_text("new"))
    assert {item.name: item.read_text() for item in tmp_path.iterdir()} == {"file": "new"}


def test_a_killed_write_leaves_the_old_file_whole(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    code = (
        "import os, sys; from pathlib import Path; from mobileone_core.files import write_whole; "
        "write_whole(Path(sys.argv[1]), lambda aside: (aside.write_text('ne'), os.kill(os.getpid(), 9)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == "old"


def test_a_home_is_expanded_and_an_unknown_one_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expanded(Path("~/x")) == tmp_path / "x"
    assert expanded(Path("a/~x")) == Path("a/~x")
    with pytest.raises(InputError, match=r"^~no-such-user/x: its ~ names no user"):
        expanded(Path("~no-such-user/x"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be-bom"])
def test_a_text_file_is_read_as_editors_save_it(encoding, tmp_path):
    path, content = tmp_path / "labels.txt", "first\r\ncaf\u00e9\r\n"
    be = b"\xfe\xff" + content.encode("utf-16-be")
    path.write_bytes(be if encoding == "utf-16-be-bom" else content.encode(encoding))
    assert read_text(path) == "first\ncaf\u00e9\n"


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16-le", "utf-32", "shift_jis"])
def test_another_encoding_is_refused_with_the_name_of_the_file(encoding, tmp_path):
    path = tmp_path / "labels.txt"
    path.write_bytes("first\r\n\u30a2\u00e9".encode(encoding, errors="ignore"))
    with pytest.raises(
        InputError,
        match=r"labels.txt: neither UTF-8 nor UTF-16 .*; save it as UTF-8 .iconv ",
    ):
        read_text(path)
