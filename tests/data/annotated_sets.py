"""Miniatures of data sets with boxes and masks, in their real layouts."""

import json
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

CATEGORIES = [{"id": number, "name": f"thing {number}"} for number in (90, 1, 3)]  # with gaps, in no order


def save_image(path: Path, size=(40, 30), mode="RGB", seed=0, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path, **options)


def annotation(number, image, box, category=1, **fields):
    return {"id": number, "image_id": image, "category_id": category, "bbox": box, "iscrowd": 0} | fields


def coco_content(images=4, categories=CATEGORIES):
    """Image 10 has two objects, a crowd and a box of no size; 11 none; 12 boxes that leave the image; others one."""
    listed = [{"id": 10 + n, "file_name": f"{n:03d}.jpg", "width": 40, "height": 30} for n in range(images)]
    rows = [
        annotation(1, 12, [-5, -5, 20, 15], 3),
        annotation(2, 10, [4, 3, 8, 6], 90, area=20.5),
        annotation(3, 10, [0, 0, 40, 30], 3),
        annotation(4, 10, [5, 5, 20, 20], 1, iscrowd=1),
        annotation(5, 10, [5, 5, 0, 20], 1),
        annotation(6, 12, [50, 5, 10, 10], 1),
        annotation(7, 12, [30, 20, 30, 30], 1),
    ]
    rows += [annotation(20 + n, 10 + n, [2 + n, 3, 9, 12], 3) for n in range(3, images)]
    return {
        "images": listed,
        "annotations": [row for row in rows if row["image_id"] < 10 + images],
        "categories": categories,
    }


def write_coco(
    root: Path, content=None, splits=("train", "val"), year="2017", annotations="annotations/instances_{}.json"
):
    """COCO's layout; the image of 11 is grey."""
    for split in splits:
        chosen = content or coco_content(12 if split == "train" else 4)
        for seed, item in enumerate(chosen["images"]):
            mode = "L" if item["id"] == 11 else "RGB"
            save_image(root / f"{split}{year}" / item["file_name"], (item["width"], item["height"]), mode, seed)
        file = root / annotations.format(f"{split}{year}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(chosen))
    return root


def save_mask(path: Path, classes=3, size=(40, 30), seed=0, background=True):
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0 if background else 1, classes, (size[1], size[0]), dtype=np.uint8)
    values[:3] = 255 if background else 0
    mask = Image.fromarray(values)
    if background:
        mask.putpalette(list(range(256)) * 3)
    mask.save(path)
    return values


def write_voc(root: Path, masks="SegmentationClassAug", train=("a1", "a2"), more=("b1", "b2", "v1"), val=("v1", "v2")):
    """VOC's layout with an augmented list: VOC's train and val, and the SBD's images, of which one is in val."""
    base = root / "VOCdevkit" / "VOC2012"
    for seed, name in enumerate(sorted({*train, *more, *val})):
        save_image(base / "JPEGImages" / f"{name}.jpg", seed=seed)
    for seed, name in enumerate((*train, *val)):
        save_mask(base / "SegmentationClass" / f"{name}.png", 21, seed=seed)
    for seed, name in enumerate(more):
        if masks == "SBD/cls":
            path = root / masks / f"{name}.mat"
            path.parent.mkdir(parents=True, exist_ok=True)
            values = np.random.default_rng(seed).integers(0, 21, (30, 40), dtype=np.uint8)
            savemat(path, {"GTcls": {"Segmentation": values}})
        else:
            save_mask(base / masks / f"{name}.png", 21, seed=seed)
    lists = base / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("\n".join(train) + "\n")
    (lists / "val.txt").write_text("\n".join(val) + "\n")
    return root


def write_ade20k(root: Path, train=12, val=3):
    base = root / "ADEChallengeData2016"
    for split, count in (("training", train), ("validation", val)):
        for number in range(count):
            name = f"ADE_{split}_{number:08d}"
            save_image(base / "images" / split / f"{name}.jpg", seed=number)
            save_mask(base / "annotations" / split / f"{name}.png", 151, seed=number, background=False)
    rows = [f"{number}\t0.1\t100\t10\t0\tname {number}, other" for number in range(1, 151)]
    (base / "objectInfo150.txt").write_text("\n".join(["Idx\tRatio\tTrain\tVal\tStuff\tName", *rows]))
    return root


def write_masks(root: Path, classes=("sky", "road", "car"), splits=(("train", 12), ("val", 4))):
    for split, count in splits:
        for number in range(count):
            save_image(root / split / "images" / f"{number}.jpg", seed=number)
            save_mask(root / split / "masks" / f"{number}.png", len(classes), seed=number)
    (root / "classes.txt").write_text("\n".join(classes))
    return root
