"""Class folders as people have them: numbers, other names of splits, hidden folders, links, classes too small."""

import hashlib
import itertools
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from PIL import Image

from mobileone_core.data.catalog import class_names, resolve_data
from mobileone_core.data.classes import imagenet_labels, network_classes
from mobileone_core.data.folders import in_label_order, read_folder, read_test
from mobileone_core.data.loaders import LoaderOptions, open_test
from mobileone_core.data.sets import open_splits
from mobileone_core.data.spec import DATA_SETS, DataSpec
from mobileone_core.errors import InputError


def make(root: Path, splits: Mapping[str, Sequence[str]], count: int = 2) -> Path:
    """Make root/split/class/N.png with so many images per class; image N of class number C is grey, 10 C + N."""
    for split, classes in splits.items():
        for label, name in enumerate(classes):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                Image.new("L", (8, 8), 10 * label + number).save(folder / f"{number}.png")
    return root


@pytest.mark.parametrize(
    ("names", "ordered"),
    [
        (("10", "9", "0", "11"), ["0", "9", "10", "11"]),
        (("2", "-1", "10", "-10"), ["-10", "-1", "2", "10"]),
        (("00", "02", "01", "10"), ["00", "01", "02", "10"]),
        (("10", "9", "x"), ["10", "9", "x"]),
        (("10", "9", "1.5"), ["1.5", "10", "9"]),
        (("²", "10", "9"), ["10", "9", "²"]),
        (("b", "A", "a10", "a9"), ["A", "a10", "a9", "b"]),
    ],
)
def test_classes_are_sorted_as_numbers_if_all_are_whole_numbers(names: Sequence[str], ordered: list[str]):
    assert in_label_order(names) == ordered


def test_numbered_folders_are_labelled_by_their_numbers(tmp_path: Path):
    numbers = [str(number) for number in range(12)]
    root = make(tmp_path, {"train": numbers, "val": numbers})
    for files in (*read_folder(root).values(), *read_test(root).values()):
        assert [files.path(index).parent.name for index in range(len(files))] == [
            name for name in numbers for _ in "ab"
        ]
        assert files.labels.tolist() == [number for number in range(12) for _ in "ab"]
    assert class_names(resolve_data("folder", root), root) == tuple(numbers)


def test_a_fingerprint_covers_the_order_of_classes_and_moves_for_no_other_folder(tmp_path: Path):
    def usual(root: Path) -> str:
        files = sorted((path.relative_to(root).as_posix(), path.stat().st_size) for path in root.rglob("*.png"))
        return hashlib.sha256("".join(f"{name}\0{size}\n" for name, size in files).encode()).hexdigest()[:12]

    for number, names in enumerate([("a", "b"), ("09", "10"), ("0", "1"), ("10", "9"), ("-1", "-2")]):
        root = make(tmp_path / str(number), {"train": names, "val": names})
        assert (resolve_data("folder", root).fingerprint == usual(root)) is (number < 3)
    for root, names in ((tmp_path / "0", ("a", "b")), (tmp_path / "3", ("10", "9"))):
        prints = [
            resolve_data("folder", root, test_only=True, classes=order).fingerprint
            for order in ((), names, names[::-1], ("0", *names))
        ]
        assert prints[0] == prints[1 if root.name == "0" else 2]
        assert len({*prints}) == 3


def test_a_networks_classes_decide_the_labels_of_a_test_set(tmp_path: Path):
    root, classes = make(tmp_path, {"val": ["bee", "ant"]}), ("cat", "bee", "ant")
    spec = resolve_data("folder", root, 8, test_only=True, classes=classes)
    assert spec.num_classes == 3
    loader = open_test(spec, root, LoaderOptions(4, "none"), classes)
    assert [labels.tolist() for _, labels in loader] == [[1, 1, 2, 2]]
    with pytest.raises(InputError, match=r"data_root: \"class 'bee' of .*val\" is not allowed; one of the network's 2"):
        read_test(root, ("ant", "cat"))


def test_a_root_of_numbered_classes_is_a_test_set(tmp_path: Path):
    make(tmp_path, {".": ["0", "2", "10"]})
    [(split, files)] = read_test(tmp_path).items()
    assert (split, files.classes, files.directory) == ("test", ("0", "2", "10"), tmp_path)
    with pytest.raises(InputError, match="holds no image folder; expected train/CLASS/IMAGE"):
        read_folder(tmp_path)


@pytest.mark.parametrize("names", [("Train", "VALID"), ("training", "validation"), ("train", "Testing")])
def test_splits_have_the_names_that_people_use(names: tuple[str, str], tmp_path: Path):
    root = make(tmp_path, dict.fromkeys(names, "ab"))
    splits = read_folder(root)
    assert list(splits) == ["train", "test" if names[1] == "Testing" else "val"]
    assert [files.directory.name for files in splits.values()] == list(names)
    assert len(open_splits(resolve_data("folder", root), root, 0).test()) == 4


def test_two_folders_for_one_split_are_refused(tmp_path: Path):
    root = make(tmp_path, {"train": "ab", "val": "ab", "valid": "ab"})
    with pytest.raises(InputError, match=r"data_root: .* one folder of val images, not both val and valid"):
        resolve_data("folder", root)


def test_what_hides_is_no_class_and_no_image_and_is_counted(tmp_path: Path):
    root = make(tmp_path, {"train": ["a", "b", ".ipynb_checkpoints", "__MACOSX"], "val": ["a", "b", "@eaDir"]})
    make(root / "train" / "a", {".": [".ipynb_checkpoints"]})
    for name in ("._0.png", ".DS_Store", "Thumbs.db", "notes.txt", "x.GIF", "README", "y.JPG"):
        (root / "train" / "a" / name).touch()
    (root / "train" / "loose.png").touch()
    train, val = read_folder(root).values()
    assert train.classes == val.classes == ("a", "b")
    assert [train.path(index).name for index in range(len(train))] == ["0.png", "1.png", "y.JPG", "0.png", "1.png"]
    assert train.left_out == {
        "hidden": 6, ".txt": 1, ".gif": 1, "without extension": 1, "outside of class folders": 1
    }  # fmt: skip
    assert val.left_out == {"hidden": 1}


def test_links_that_form_a_circle_end(tmp_path: Path):
    root = make(tmp_path / "data", {"train": "ab", "val": "ab"})
    make(tmp_path, {"elsewhere": "c"}, count=1)
    for link, target in {
        "a/up": root / "train", "a/self": root / "train" / "a", "a/root": Path("/"), "b/more": tmp_path / "elsewhere",
        "loop": root / "train", "broken": root / "none", "itself": root / "train" / "itself",
    }.items():  # fmt: skip
        (root / "train" / link).symlink_to(target)
    (tmp_path / "elsewhere" / "c" / "back").symlink_to(tmp_path / "elsewhere")
    train = read_folder(root)["train"]
    names = [os.fsdecode(name) for name in train.names.tolist()]
    assert names == ["a/0.png", "a/1.png", "b/0.png", "b/1.png", "b/more/c/0.png"]


def test_differing_classes_are_named_with_what_lacks_them(tmp_path: Path):
    root = make(tmp_path, {"train": "abc", "val": "abd"})
    with pytest.raises(InputError, match=r"val and train/ differ in class 'c', which /.*val lacks; both"):
        resolve_data("folder", root)
    make(root, {"val": "c"})
    with pytest.raises(InputError, match=r"val and train/ differ in class 'd', which train/ lacks; both"):
        resolve_data("folder", root)


@pytest.mark.parametrize("names", [("007", "7"), ("0", "00"), ("Cat", "cat"), ("1", "1 "), ("cafe\u0301", "caf\xe9")])
def test_classes_that_look_alike_are_refused(names: tuple[str, str], tmp_path: Path):
    root = make(tmp_path, {"train": names, "val": names})
    with pytest.raises(InputError, match=re.escape(f"train holds classes {names[0]!a} and {names[1]!a}; names must")):
        resolve_data("folder", root)


def test_a_class_of_one_image_is_named_at_planning_if_validation_is_carved(tmp_path: Path):
    root = make(tmp_path, {"train": ("ant", "bee"), "val": ("ant", "bee")})
    (root / "train" / "bee" / "1.png").unlink()
    with pytest.raises(InputError, match=r"data_root: .*train holds one image of class 'bee'; validation is carved"):
        resolve_data("folder", root)
    make(root, {"test": ("ant", "bee")})
    assert resolve_data("folder", root).num_classes == 2


@pytest.mark.parametrize("name", ["digits", "cifar10"])
def test_data_sets_name_their_classes(name: str):
    names = class_names(DataSpec(name), None)
    assert len(set(names)) == DATA_SETS[name].classes == 10


def test_imagenets_classes_are_wordnet_ids(tmp_path: Path):
    make(tmp_path, {"imagenette2/train": ["n02102040", "n01440764"]}, count=0)
    assert class_names(DataSpec("imagenette", num_classes=2), tmp_path) == ("n01440764", "n02102040")
    with pytest.raises(InputError, match="10 folders of classes"):
        class_names(DataSpec("imagenette"), tmp_path)


@pytest.mark.parametrize("name", ["50 %20", "new\nline", "naïve €", "~"])
def test_names_of_directories_and_classes_are_free(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    root = make(tmp_path / name, {"train": ["a", name], "val": ["a", name]})
    monkeypatch.setenv("HOME", str(tmp_path))
    for given in (root, Path("~") / name):
        spec = resolve_data("folder", given, 8)
        assert set(class_names(spec, given)) == {"a", name}
        assert (
            len(list(open_test(resolve_data("folder", given, 8, test_only=True), given, LoaderOptions(4, "none")))) == 1
        )


def test_a_link_to_nothing_and_a_pipe_are_counted_and_left_out(tmp_path):
    for split, label in itertools.product(("train", "val"), ("cat", "dog")):
        (tmp_path / split / label).mkdir(parents=True)
        (tmp_path / split / label / "1.png").write_bytes(b"x")
    (tmp_path / "train" / "cat" / "2.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "train" / "dog" / "itself.png").symlink_to("itself.png")
    os.mkfifo(tmp_path / "train" / "dog" / "pipe.png")
    files = read_folder(tmp_path)["train"]
    assert (len(files), files.left_out) == (2, {"link to nothing": 2, "pipe or device": 1})


def test_one_folder_under_two_names_is_no_test_set(tmp_path):
    (make(tmp_path, {"train": "ab"}) / "val").symlink_to("train")
    with pytest.raises(InputError, match="holds one folder of images under two of its names train, val"):
        resolve_data("folder", tmp_path)


def test_folders_of_a_network_are_matched_by_their_very_names_first():
    assert network_classes(("-1", "0"), ("-1", "0", "1"), 3, {}) == ("-1", "0", "1 (no folder)")
    assert network_classes(("a-b", "c"), ("a-b", "a_b", "c"), 3, {}) == ("a-b", "a_b (no folder)", "c")
    names = sorted(imagenet_labels())
    matched = network_classes(names, (), 1000, {})
    assert sorted(matched) == names
    assert list(matched) != names
    assert network_classes([f"mine {number}" for number in range(1000)], (), 1000, {}) == ()
    assert network_classes(("1", "2"), (), 2, {}) == ()
    assert network_classes(("cafe\u0301",), ("tea", "caf\u00e9"), 2, {})[1] == "cafe\u0301"  # as macOS writes names
