"""COCO, VOC, ADE20K and one's own sets in their layouts: what is read, by which rules, and what is refused."""

import json
from pathlib import Path

import annotated_sets as sets
import numpy as np
import pytest
import torch
from PIL import Image

from mobileone_core.data.annotated.boxes import read_boxes
from mobileone_core.data.annotated.files import read_annotated
from mobileone_core.data.annotated.layouts import Source
from mobileone_core.data.annotated.loaders import AnnotatedLoaders
from mobileone_core.data.catalog import class_names, resolve_data
from mobileone_core.data.loaders import LoaderOptions
from mobileone_core.data.spec import DATA_SETS, DataSpec
from mobileone_core.errors import InputError

WRITERS = {
    "coco": ("detection", sets.write_coco, 80),
    "boxes": ("detection", lambda root: sets.write_coco(root, year="", annotations="annotations/{}.json"), 3),
    "voc": ("segmentation", sets.write_voc, 21),
    "ade20k": ("segmentation", sets.write_ade20k, 150),
    "masks": ("segmentation", sets.write_masks, 3),
}
EIGHTY = [{"id": number + number // 8, "name": f"thing {number}"} for number in range(1, 81)]  # ids 1 to 90


def open_set(name, root, seed=0, size=32, **options):
    task = WRITERS[name][0]
    spec = resolve_data(name, root, size)
    options = {"batch_size": 4, "augmentation": "none"} | options
    return AnnotatedLoaders(spec, task, root, seed, LoaderOptions(**options))


def write_set(name, root):
    content = sets.coco_content(12, EIGHTY) if name == "coco" else None
    return sets.write_coco(root, content) if content else WRITERS[name][1](root)


@pytest.mark.parametrize("name", WRITERS)
def test_every_set_opens_by_name_and_gives_batches(name, tmp_path):
    task, _, classes = WRITERS[name]
    root = write_set(name, tmp_path)
    spec = resolve_data(name, root)
    assert (spec.num_classes, spec.channels, len(class_names(spec, root))) == (classes, 3, classes)
    augmentation = {"detection": "ssd", "segmentation": "scale_crop_flip"}[task]
    with open_set(name, root, augmentation=augmentation) as loaders:
        for split in ("train", "val", "test"):
            for images, targets in getattr(loaders, split):
                assert (images.dtype, images.shape[1:]) == (torch.float32, (3, 32, 32))
                if task == "segmentation":
                    assert (targets.dtype, targets.shape) == (torch.int64, (len(images), 32, 32))
                    assert set(targets.unique().tolist()) <= {*range(classes), 255}
                    continue
                assert len(targets) == len(images)
                for item in targets:
                    assert (item["boxes"].dtype, item["labels"].dtype) == (torch.float32, torch.int64)
                    assert item["boxes"].shape == (len(item["labels"]), 4)
                    assert (item["boxes"] >= 0).all()
                    assert (item["boxes"] <= 32).all()
                    assert (item["boxes"][:, 2:] > item["boxes"][:, :2]).all()


def test_train_and_validation_are_disjoint_and_every_epoch_is_drawn_anew(tmp_path):
    root = sets.write_masks(tmp_path)
    with (
        open_set("masks", root, augmentation="scale_crop_flip", batch_size=11) as one,
        open_set("masks", root, augmentation="scale_crop_flip", batch_size=11) as two,
    ):
        parts = [
            {getattr(one, split).loader.dataset.files.pairs[n] for n in range(count)}
            for split, count in (("train", 11), ("val", 1))
        ]
        assert len(parts[0] | parts[1]) == 12
        [(first, _)] = one.train
        one.train.set_epoch(1, 0.5)
        two.train.set_epoch(1, 0.5)
        [(images, masks)], [(again, expected)] = one.train, two.train
        assert torch.equal(images, again)
        assert torch.equal(masks, expected)
        assert not torch.equal(images.sum((1, 2, 3)).sort().values, first.sum((1, 2, 3)).sort().values)


@pytest.mark.slow
def test_workers_give_the_same_batches(tmp_path):
    for name, augmentation in (("masks", "scale_crop_flip"), ("boxes", "ssd")):
        root = write_set(name, tmp_path / name)
        with (
            open_set(name, root, augmentation=augmentation) as alone,
            open_set(name, root, augmentation=augmentation, workers=2) as shared,
        ):
            for (images, targets), (others, expected) in zip(alone.train, shared.train, strict=True):
                assert torch.equal(images, others)
                if name == "masks":
                    assert torch.equal(targets, expected)
                else:
                    assert all(torch.equal(a["boxes"], b["boxes"]) for a, b in zip(targets, expected, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["masks", "boxes"])
def test_targets_from_workers_hold_no_files(name, tmp_path):
    """An evaluation keeps the targets of thousands of images; /dev/shm and open files are few."""
    folder = Path("/proc/self/fd")
    if not folder.is_dir():
        pytest.skip("Linux alone lists open files there")
    with open_set(name, write_set(name, tmp_path), batch_size=1, workers=1) as loaders:
        batches = iter(loaders.train)
        kept = [next(batches)]
        opened = len(list(folder.iterdir()))
        kept += batches
        assert len(kept) == 11
        assert len(list(folder.iterdir())) <= opened


def read(root, content=None, **options):
    sets.write_coco(root, content, splits=("train",), **options)
    return read_boxes(Source(root / "train2017", root / "annotations" / "instances_train2017.json"))


def test_rules_for_boxes(tmp_path):
    """Ids with gaps become 1 to n in their order; boxes are cut to the image; those of no size are left out."""
    files = read(tmp_path, sets.coco_content(4))
    assert files.classes == ("thing 1", "thing 3", "thing 90")
    image, target = files.read(0)
    assert image.size == (40, 30)
    assert target["boxes"].tolist() == [[4, 3, 12, 9], [0, 0, 40, 30], [5, 5, 25, 25]]
    assert target["labels"].tolist() == [3, 2, 1]
    assert target["iscrowd"].tolist() == [0, 0, 1]
    assert target["area"].tolist() == [20.5, 1200, 400]
    image, target = files.read(1)
    assert (image.mode, target["boxes"].shape) == ("RGB", (0, 4))  # grey, and without objects
    assert files.read(2)[1]["boxes"].tolist() == [[0, 0, 15, 10], [30, 20, 40, 30]]


def test_crowds_are_for_the_evaluation_alone_which_measures_original_pixels(tmp_path):
    root = sets.write_coco(tmp_path, year="", annotations="annotations/{}.json")
    with open_set("boxes", root, batch_size=16) as loaders:
        [(_, targets)] = loaders.test
        assert targets[0]["iscrowd"].tolist() == [0, 0, 1]
        assert targets[0]["scale"].tolist() == pytest.approx([40 / 32, 30 / 32])
        assert targets[0]["boxes"][1].tolist() == [0, 0, 32, 32]
        assert len(targets) == 4
        [(_, targets)] = loaders.train
        assert {name for item in targets for name in item} == {"boxes", "labels"}
        assert max(len(item["labels"]) for item in targets) == 2


@pytest.mark.parametrize("orientation", [1, 6])
def test_exif_turns_an_image_unless_the_annotation_is_of_the_image_as_it_lies(orientation, tmp_path):
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 30, "height": 40}],
        "annotations": [],
        "categories": sets.CATEGORIES,
    }
    files = read(tmp_path, content)
    exif = Image.Exif()
    exif[0x0112] = orientation
    sets.save_image(files.path(0), (40, 30) if orientation == 6 else (30, 40), exif=exif)
    assert files.read(0)[0].size == (30, 40)
    sets.save_image(files.path(0), (30, 40), exif=exif)
    assert files.read(0)[0].size == (30, 40)


@pytest.mark.parametrize(
    ("table", "change", "message"),
    [
        ("annotations", {"bbox": [1, 2, 3]}, r"annotations\[0\].bbox: \[1, 2, 3\] is not allowed; four finite numbers"),
        ("annotations", {"bbox": [1, 2, 3, float("nan")]}, r"annotations\[0\].bbox: .* four finite numbers"),
        ("annotations", {"category_id": 2}, r"annotations\[0\].category_id: 2 is not allowed; an id that the file has"),
        ("annotations", {"image_id": 99}, r"annotations\[0\].image_id: 99 is not allowed; an id that the file has"),
        ("annotations", {"image_id": None}, r"annotations\[0\].image_id: None is not allowed; an id that the file has"),
        ("annotations", {"iscrowd": "no"}, r"annotations\[0\].iscrowd: 'no' is not allowed; 0 or 1"),
        ("images", {"width": 0}, r"images\[0\].width: 0 is not allowed; an integer above 0"),
        ("images", {"file_name": "none.jpg"}, r"images\[0\].file_name: 'none.jpg' is not allowed; a file below"),
        ("images", {"width": 10**400}, r"images\[0\].width: 10{299}\.\.\. is not allowed; an integer above 0"),
        ("annotations", {"bbox": [10**400, 0, 1, 1]}, r"annotations\[0\].bbox: .* four finite numbers"),
        ("annotations", {"area": -1}, r"annotations\[0\].area: -1 is not allowed; a finite number of 0 or more"),
        ("categories", {"name": 7}, r"categories\[0\].name: 7 is not allowed; a text"),
        ("categories", {"id": 3}, r"categories\[2\].id: 3 is not allowed; another than that of categories\[0\]"),
        ("images", {"id": 12}, r"images\[2\].id: 12 is not allowed; another than that of images\[0\]"),
        ("images", {"file_name": "001.jpg"}, r"images\[1\].file_name: '001.jpg' is not allowed; another than that of"),
    ],
)
def test_a_broken_annotation_is_named_with_file_and_field(table, change, message, tmp_path):
    files = read(tmp_path, sets.coco_content(4))
    content = json.loads(files.source.file.read_text())
    content[table][0] |= change
    files.source.file.write_text(json.dumps(content))
    with pytest.raises(InputError, match=f"instances_train2017.json: {message}"):
        read_boxes(files.source)


def test_missing_lists_and_files_that_are_no_json(tmp_path):
    files = read(tmp_path, sets.coco_content(4))
    file = files.source.file
    file.write_text('{"images": []}')
    with pytest.raises(InputError, match="json: categories: None is not allowed; a list"):
        read_boxes(files.source)
    for text in ("{", "[]"):
        file.write_text(text)
        with pytest.raises(InputError, match=r"instances_train2017\.json"):
            read_boxes(files.source)


def test_an_image_of_another_size_is_refused_when_it_is_read(tmp_path):
    root = sets.write_coco(tmp_path, year="", annotations="annotations/{}.json")
    sets.save_image(root / "val" / "002.jpg", (40, 31))
    message = (
        r"annotations/val.json: images\[2\].width and height: \(40, 30\) is not allowed; those of .*002.jpg, 40 and 31"
    )
    with open_set("boxes", root) as loaders, pytest.raises(InputError, match=message):
        list(loaders.test)


def test_coco_itself_has_80_classes(tmp_path):
    root = sets.write_coco(tmp_path)
    with open_set("coco", root) as loaders, pytest.raises(InputError, match="categories: 3 is not allowed; the 80"):
        list(loaders.test)


@pytest.mark.parametrize("number", [0, 1])
def test_splits_whose_classes_differ_are_refused(number, tmp_path):
    """Classes in another order, or with another name, would be tested as the wrong ones."""
    content = sets.coco_content(4)
    root = sets.write_coco(tmp_path, content, year="", annotations="annotations/{}.json")
    content["categories"] = [{"id": 90, "name": "thing 1"}, {"id": 1, "name": "thing 90"}, sets.CATEGORIES[2]]
    content["categories"] = [content["categories"], [*sets.CATEGORIES[:2], {"id": 3, "name": "else"}]][number]
    (root / "annotations" / "train.json").write_text(json.dumps(content))
    found, wanted = [("thing 90, thing 1", "thing 1, thing 90"), ("else", "thing 3")][number]
    message = f"train.json: categories: '{found}' is not allowed; {wanted}, as in the last split"
    with open_set("boxes", root) as loaders, pytest.raises(InputError, match=message):
        list(loaders.train)


@pytest.mark.parametrize(("split", "count", "message"), [("train", 1, "images of train: 1 is"), ("val", 0, "images: ")])
def test_splits_with_too_few_images_are_refused(split, count, message, tmp_path):
    root = sets.write_coco(tmp_path, sets.coco_content(4), year="", annotations="annotations/{}.json")
    content = sets.coco_content(4)
    content |= {"images": content["images"][:count], "annotations": []}
    (root / "annotations" / f"{split}.json").write_text(json.dumps(content))
    with open_set("boxes", root) as loaders, pytest.raises(InputError, match=message):
        list(loaders.val if split == "train" else loaders.test)


def test_roboflows_layout_and_a_test_set(tmp_path):
    for split in ("train", "valid", "test"):
        sets.write_coco(tmp_path, splits=(split,), year="", annotations="{}/_annotations.coco.json")
    with open_set("boxes", tmp_path) as loaders:
        folders = [
            getattr(loaders, split).loader.dataset.files.source.images.name for split in ("train", "val", "test")
        ]
    assert folders == ["train", "valid", "test"]
    assert not resolve_data("boxes", tmp_path).is_carved


def test_the_fingerprint_is_that_of_names_and_annotations(tmp_path):
    root = sets.write_coco(tmp_path / "boxes", year="", annotations="annotations/{}.json")
    with open_set("boxes", root) as loaders:
        first = resolve_data("boxes", root)
        assert (len(first.fingerprint), first.train_images) == (12, 11)
        file = root / "annotations" / "train.json"
        file.write_text(file.read_text().replace("20.5", "21.5"))
        assert resolve_data("boxes", root).fingerprint != first.fingerprint
        with pytest.raises(InputError, match="is not the data set that was planned"):
            list(loaders.train)


@pytest.mark.parametrize("masks", ["SegmentationClassAug", "SBD/cls"])
def test_vocs_augmented_list_has_none_of_val(masks, tmp_path):
    """The list has a1, b1 and b2 of SBD and a1 and a2 of VOC; v1 and v2 are val."""
    root = sets.write_voc(tmp_path, masks, more=("a1", "b1", "b2", "v1"))
    spec = resolve_data("voc", root)
    assert (sum(spec.class_images), DATA_SETS["voc"].train_images) == (4, 10_582)
    assert spec.fingerprint  # not the published number
    assert class_names(spec, root)[:2] == ("background", "aeroplane")
    with open_set("voc", root) as loaders:
        parts = {split: getattr(loaders, split).loader.dataset.files.pairs for split in ("train", "val", "test")}
    names = {split: {pair.images.stem for pair in pairs} for split, pairs in parts.items()}
    assert names["train"] | names["val"] == {"a1", "a2", "b1", "b2"}
    assert names["test"] == {"v1", "v2"}
    folders = {pair.images.stem: pair.file.parent.name for pair in (*parts["train"], *parts["val"])}
    assert folders["a1"] == "SegmentationClass"  # VOC's finer one
    assert folders["b1"] == masks.rpartition("/")[2]


def test_voc_without_the_augmented_masks_is_refused(tmp_path):
    root = sets.write_voc(tmp_path, more=())
    with pytest.raises(InputError, match=r"holds no voc; expected .* SegmentationClassAug/ or in SBD/cls/"):
        resolve_data("voc", root)


def test_ade20ks_label_0_is_ignored_and_the_others_count_from_0(tmp_path):
    root = sets.write_ade20k(tmp_path)
    with open_set("ade20k", root, size=40) as loaders:
        files = loaders.test.loader.dataset.files
    written = np.asarray(Image.open(files.pairs[0].file))
    mask = files.read(0)[1]["masks"]
    assert (written.min(), written.max()) == (0, 150)
    assert (mask[written == 0] == 255).all()
    assert np.array_equal(mask[written > 0], written[written > 0] - 1)
    assert class_names(resolve_data("ade20k", root), root)[0] == "name 1, other"


def broken_mask(pixels=None, path=None, size=(30, 40), mode=None):
    values = np.zeros(size, np.uint8)
    values[0, 0] = pixels or 0
    image = Image.fromarray(values)
    (image.convert(mode) if mode else image).save(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: broken_mask(7, path), "3.png: pixel: 7 is not allowed; 0 to 2, or 255 for what is ignored"),
        (
            lambda path: broken_mask(0, path, (29, 40)),
            "3.png: size: '40 x 29' is not allowed; the size of .*3.jpg, 40 x 30",
        ),
        (lambda path: broken_mask(0, path, mode="RGB"), "3.png: mode: 'RGB' is not allowed; L or P"),
        (lambda path: path.write_bytes(b""), "3.png is not a readable mask"),
    ],
)
def test_a_broken_mask_is_named(change, message, tmp_path):
    root = sets.write_masks(tmp_path)
    change(root / "val" / "masks" / "3.png")
    with open_set("masks", root) as loaders, pytest.raises(InputError, match=message):
        list(loaders.test)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("\n".join(map(str, range(256))).encode(), r"classes.txt \(256 lines\)' is not allowed; 1 to 255 classes"),
        (b"\n", r"classes.txt \(0 lines\)' is not allowed; 1 to 255 classes"),
        (b"caf\xe9\nb\nc", "classes.txt.* save it as UTF-8"),
    ],
)
def test_a_broken_list_of_classes_is_named(content, message, tmp_path):
    """Label 255 is ignored: a class of that number would be, too."""
    (tmp_path / "classes.txt").write_bytes(content)
    with pytest.raises(InputError, match=message):
        class_names(DataSpec("masks", 64, 3, 3), tmp_path)


def test_an_image_without_mask_is_named(tmp_path):
    root = sets.write_masks(tmp_path)
    (root / "train" / "masks" / "5.png").unlink()
    with pytest.raises(InputError, match=r"5.jpg' is not allowed; an image with a mask, .*masks/5.png"):
        resolve_data("masks", root)


@pytest.mark.parametrize("name", WRITERS)
def test_an_empty_root_names_the_layout(name, tmp_path):
    with pytest.raises(InputError, match=f"data_root: .* holds no {name}; expected "):
        resolve_data(name, tmp_path)
    assert DATA_SETS[name].tasks == (WRITERS[name][0],)


@pytest.mark.parametrize("name", WRITERS)
def test_items_are_refused(name, tmp_path):
    write_set(name, tmp_path)
    with pytest.raises(InputError, match="items: 'mnist' is not allowed; it is for scenes alone"):
        resolve_data(name, tmp_path, items="mnist")


def test_a_test_set_alone_can_be_opened(tmp_path):
    root = sets.write_coco(tmp_path, splits=("val",), year="", annotations="annotations/{}.json")
    spec = resolve_data("boxes", root, 32, test_only=True)
    with AnnotatedLoaders(spec, "detection", root, 0, LoaderOptions(4, "none")) as loaders:
        assert len(list(loaders.test)) == 1
    with pytest.raises(InputError, match="holds no boxes"):
        resolve_data("boxes", root)


@pytest.mark.parametrize("name", WRITERS)
def test_a_check_reads_every_image_and_names_the_broken_one(name, tmp_path):
    root = write_set(name, tmp_path)
    spec = resolve_data(name, root)
    labels, facts = read_annotated(spec, root, lambda loop, _: loop)
    assert {item.split for item in facts} == {*labels} == {"train", "val", "test"}
    assert all(len(numbers) and 0 <= numbers.min() <= numbers.max() < spec.num_classes for numbers in labels.values())
    assert not [item.error for item in facts if item.error]
    broken = sorted(root.rglob("*.jpg"))[0]
    broken.write_bytes(b"")
    assert [
        str(broken) in item.error
        for item in read_annotated(resolve_data(name, root), root, lambda loop, _: loop)[1]
        if item.error
    ]
