"""`mobileone data check`, and its short form before a study."""

import json
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from mobileone_core.cli import console, main
from mobileone_core.data import folders
from mobileone_core.data.folders import read_folder
from mobileone_core.errors import InputError
from mobileone_core.study.declaration import Study
from mobileone_core.study.factor import Factor


def ended(run, arguments, capsys) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as caught:
        run([str(argument) for argument in arguments])
    return int(caught.value.code or 0), *capsys.readouterr()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for split, count in (("train", 3), ("valid", 2)):
        for name in ("9", "10"):
            folder = tmp_path / "data" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                Image.new("RGB" if number else "L", (8 + number, 8)).save(folder / f"{number}.png")
    (tmp_path / "data" / "extra").mkdir()
    for name in (".DS_Store", "9/.ipynb_checkpoints", "9/x.gif"):
        (tmp_path / "data" / "train" / name).touch()
    return tmp_path / "data"


def test_a_check_prints_what_is_understood(root, capsys):
    code, out, _ = ended(console, ["data", "check", root], capsys)
    shown = [f"{root}/valid/{name}.png" for name in ("9/0", "9/1", "10/0")]
    assert (code, out.splitlines()) == (0, [
        "data        2 classes: '9', '10'; train/ 6 (training and validation, carved), valid/ 4 (test)",
        "left out    extra/, 1 .gif, 2 hidden",
        "label     train      val  class",
        "    0         3        2  9",
        "    1         3        2  10",
        "train modes 4 RGB, 2 L",
        "val modes   2 L, 2 RGB",
        "width       8 to 10 pixels, median 9",
        "height      8 to 8 pixels, median 8",
        f"repeated    4 images of val are in train, too: {', '.join(shown)} and 1 more",
        "unreadable  0 of 10 images",
    ])  # fmt: skip


def test_every_file_that_cannot_be_read_is_listed(root, capsys):
    for name in ("train/9/1.png", "valid/10/0.png"):
        (root / name).write_bytes(b"" if "train" in name else b"<html>")
    code, out, _ = ended(console, ["data", "check", root], capsys)
    assert code == 1
    assert out.splitlines()[-3:] == [
        "unreadable  2 of 10 images",
        f"  {root}/train/9/1.png is not a readable image (0 bytes)",
        f"  {root}/valid/10/0.png is not a readable image (no image of a known format)",
    ]


def test_every_fault_of_the_layout_is_listed(root, capsys):
    """Two classes that a split lacks, one without images, one of a single image: the rest is counted all the same."""
    shutil.rmtree(root / "valid" / "9")
    shutil.copytree(root / "train" / "9", root / "train" / "eleven")
    (root / "valid" / "eleven").mkdir()
    (root / "valid" / "12").mkdir()
    code, out, err = ended(console, ["data", "check", root], capsys)
    faults = [line for line in out.splitlines() if line.startswith("fault ")]
    assert (code, err.count("Traceback"), len(faults)) == (1, 0, 3)
    for words in ("'9', which", "'12', which train/ lacks", "valid/eleven holds no image"):
        assert sum(words in line for line in faults) == 1, faults
    assert any(line.endswith("  eleven") for line in out.splitlines())


def test_a_folder_that_cannot_be_read_is_named(root, monkeypatch):
    """Without it, its images would be missing in silence."""
    (root / "train" / "9" / "more").mkdir()
    scandir = os.scandir

    def closed(path):
        if str(path).endswith("more"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(InputError, match=r"data_root: .*train/9/more cannot be read \(Permission denied\)"):
        read_folder(root)


def test_a_data_set_in_memory_is_counted(capsys):
    code, out, _ = ended(console, ["data", "check", "digits"], capsys)
    assert code == 0
    assert "    3       123       14       46  3" in out.splitlines()
    assert "unreadable  0 of 1797 images" in out


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nowhere"], "error: data_root: 'nowhere' is not allowed; an existing directory"),
        (["cifar10"], "error: data_root: cifar10 needs the directory of its images; give it with --data-root DIR"),
    ],
)
def test_what_cannot_be_checked_is_one_line(arguments, line, capsys):
    code, _, err = ended(console, ["data", "check", *arguments], capsys)
    assert (code, err.strip()) == (2, line)


def test_a_study_says_in_two_lines_what_its_folder_holds(root, tmp_path, capsys, monkeypatch):
    read, splits = folders._read_split, []
    monkeypatch.setattr(
        folders, "_read_split", lambda folder, *more, **how: splits.append(folder) or read(folder, *more, **how)
    )
    study = Study("few", "Which k?", (Factor("k", "model.k", (1, 2), 1),), variant="tiny", seeds=1)
    arguments = ["--plan", "--data", "folder", "--data-root", root, "--runs", tmp_path / "runs"]
    code, out, _ = ended(lambda line: main(study, line), arguments, capsys)
    assert code == 0
    assert out.startswith(
        "data        2 classes: '9', '10'; train/ 6 (training and validation, carved), valid/ 4 (test)\n"
    )
    assert splits == [root / "train", root / "valid"]  # the folder is walked once
    (root / "train" / "9" / "1.png").write_bytes(b"")
    code, _, err = ended(lambda line: main(study, line), arguments, capsys)
    assert code == 2
    assert f"{root}/train/9/1.png is not a readable image (0 bytes;" in err


def test_a_set_of_boxes_is_checked_and_scenes_are_refused(tmp_path, capsys):
    (tmp_path / "annotations").mkdir()
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        images = [{"id": number, "file_name": f"{number}.png", "width": 8, "height": 6} for number in range(2)]
        boxes = [{"id": 1, "image_id": 1, "category_id": 5, "bbox": [1, 1, 3, 3]}]
        content = {"images": images, "annotations": boxes, "categories": [{"id": 5, "name": "cat"}]}
        (tmp_path / "annotations" / f"{split}.json").write_text(json.dumps(content))
        for number in range(2):
            Image.new("RGB", (8, 6)).save(tmp_path / split / f"{number}.png")
    (tmp_path / "val" / "1.png").write_bytes(b"")
    code, out, _ = ended(console, ["data", "check", "boxes", "--data-root", tmp_path], capsys)
    assert code == 1
    assert "data        boxes: boxes per class, or images whose mask has it" in out
    assert f"unreadable  1 of 4 images\n  {tmp_path / 'val' / '1.png'}" in out
    code, _, error = ended(console, ["data", "check", "scenes"], capsys)
    assert (code, "data: 'scenes'" in error) == (2, True)
