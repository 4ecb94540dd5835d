"""Image files of every mode: read as 8-bit RGB, or refused in one line with the file's name."""

import contextlib
import json
import re
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file

from mobileone_core import ModelSpec, build_model
from mobileone_core.cli import console
from mobileone_core.data.check import read_images, read_splits, report_lines
from mobileone_core.data.images import decode, turned
from mobileone_core.data.loaders import LoaderOptions, open_loaders, open_test
from mobileone_core.data.preprocessing import Preprocessing
from mobileone_core.data.spec import DataSpec
from mobileone_core.errors import InputError

RAMP = np.tile(np.arange(256, dtype=np.uint8), (4, 1))
GREY = Image.fromarray(RAMP)
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8))
DEEP = RAMP.astype(np.uint16) * 257


def png(path: Path, pixels: NDArray[np.uint16], colour: int) -> None:
    """Write a PNG with 16 bits per channel; Pillow writes grey alone."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, colour, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)


def saved(image: Image.Image, **options: object) -> Callable[[Path], object]:
    return lambda path: image.save(path, **options)


def tiff(image: Image.Image, tags: dict[int, int]) -> Callable[[Path], object]:
    """Write a TIFF, with other values of tags of one integer below 65536 than Pillow writes."""

    def write(path: Path) -> None:
        image.save(path)
        content = bytearray(path.read_bytes())
        for tag, value in tags.items():
            [entry] = re.finditer(re.escape(struct.pack("<H", tag)) + rb"[\x03\x04]\x00\x01\x00{3}", content)
            content[entry.end() : entry.end() + 2] = struct.pack("<H", value)
        path.write_bytes(content)

    return write


def packed() -> Image.Image:
    """The ramp in 12 bits per pixel, two pixels in three bytes."""
    levels = (RAMP.astype(np.uint32) * 4095 + 127) // 255
    pairs = (levels[:, ::2] << 12 | levels[:, 1::2]).astype(">u4")
    return Image.fromarray(pairs.view(np.uint8).reshape(4, -1, 4)[..., 1:].reshape(4, -1))


BLACK = Image.new("L", GREY.size)
READ: dict[str, Callable[[Path], object]] = {
    "grey.png": saved(GREY),
    "grey16.png": saved(Image.fromarray(DEEP)),
    "grey16.tif": saved(Image.fromarray(DEEP)),
    "big_endian.tif": saved(Image.fromarray(DEEP.astype(">u2"))),
    "grey16.pgm": saved(Image.fromarray(DEEP)),
    "rgb16.png": lambda path: png(path, np.stack([DEEP] * 3, -1), 2),
    "grey_alpha16.png": lambda path: png(path, np.stack([DEEP] * 2, -1), 4),
    "rgba16.png": lambda path: png(path, np.stack([DEEP] * 4, -1), 6),
    "float.tif": saved(Image.fromarray(RAMP.astype(np.float32) / 255)),
    "white_is_zero.tif": tiff(Image.fromarray(255 - RAMP), {262: 0}),
    "white_is_zero16.tif": tiff(Image.fromarray(65535 - DEEP), {262: 0}),
    "white_is_zero_float.tif": tiff(Image.fromarray((255 - RAMP).astype(np.float32) / 255), {262: 0}),
    "twelve_bits.tif": tiff(packed(), {256: 256, 258: 12}),
    "palette.png": saved(GREY.convert("P")),
    "palette_transparent.png": saved(GREY.convert("P"), transparency=bytes(range(256))),
    "grey_transparent.png": saved(GREY, transparency=3),
    "alpha.png": saved(Image.merge("LA", (GREY, BLACK))),
    "rgba.png": saved(Image.merge("RGBA", (GREY, GREY, GREY, BLACK))),
    "cmyk.tif": saved(GREY.convert("RGB").convert("CMYK")),
    "first_frame.gif": saved(GREY, save_all=True, append_images=[BLACK]),
    "first_page.tif": saved(GREY, save_all=True, append_images=[BLACK]),
    "first_frame.webp": saved(GREY.convert("RGB"), save_all=True, append_images=[BLACK.convert("RGB")], lossless=True),
    "a_png.jpg": saved(GREY, format="PNG"),
    "a_webp.png": saved(GREY.convert("RGB"), format="WEBP", lossless=True),
    "broken_exif.png": saved(GREY, exif=b"Exif\0\0II*\0\xff\xff\xff\xff"),
    "no_exif.png": saved(GREY, exif=b"nonsense"),
}


@pytest.mark.parametrize("name", READ)
def test_every_mode_is_read_as_its_grey_levels(name: str, tmp_path: Path):
    READ[name](tmp_path / name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = decode(tmp_path / name)
    assert image.mode == "RGB"
    assert np.array_equal(np.asarray(image), np.stack([RAMP] * 3, -1))


@pytest.mark.parametrize("mode", ["YCbCr", "CMYK"])
def test_modes_with_other_colours_are_converted(mode: str, tmp_path: Path):
    colours = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8))
    colours.convert(mode).save(tmp_path / "x.tif")
    assert np.abs(np.asarray(decode(tmp_path / "x.tif"), int) - np.asarray(colours, int)).max() <= 4


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty.png": (Path.touch, "0 bytes"),
    "page.jpg": (lambda path: path.write_text("<html>"), "no image of a known format"),
    "cut.png": (lambda path: (saved(NOISE)(path), path.write_bytes(path.read_bytes()[:2000])), "truncated"),
    "cut.jpg": (lambda path: (saved(NOISE)(path), path.write_bytes(path.read_bytes()[:2000])), "truncated"),
    "int32.tif": (saved(Image.fromarray(DEEP.astype(np.int32))), "save it with 8 or 16 bits"),
    "float255.tif": (saved(Image.fromarray(RAMP.astype(np.float32))), "grey levels from 0 to 255; 0 to 1 are allowed"),
    "nan.tif": (saved(Image.fromarray(np.full((4, 4), np.nan, np.float32))), "grey levels from nan to nan"),
    "none.png": (lambda _: None, "No such file"),
    "folder.png": (Path.mkdir, "Is a directory"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_one_line_with_name_and_reason(name: str, tmp_path: Path):
    write, reason = REFUSED[name]
    write(tmp_path / name)
    with pytest.raises(InputError) as caught:
        decode(tmp_path / name)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / name} is not a readable image (")
    assert reason in message
    assert "\n" not in message


def test_a_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    GREY.save(tmp_path / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(InputError, match=r"x.png is not a readable image \(Image size .* exceeds limit"):
        decode(tmp_path / "x.png")


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_an_image_where_a_person_sees_it(orientation: int, suffix: str, tmp_path: Path):
    corner = np.zeros((32, 48, 3), np.uint8)
    corner[:16, :16] = 255  # top left
    lying = {
        1: corner, 2: corner[:, ::-1], 3: corner[::-1, ::-1], 4: corner[::-1],
        5: corner.swapaxes(0, 1), 6: np.rot90(corner), 7: np.rot90(corner.swapaxes(0, 1), 2), 8: np.rot90(corner, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"x.{suffix}"
    Image.fromarray(np.ascontiguousarray(lying)).save(path, exif=exif, quality=100)
    seen = np.asarray(decode(path), int)
    assert seen.shape == corner.shape
    assert np.abs(seen - corner).max() < 40
    assert np.abs(np.asarray(decode(path, upright=False), int) - lying).max() < 40


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "I;16"])
def test_turned_tiffs_have_their_own_pixels(mode: str, compression: str | None, tmp_path: Path):
    image = Image.fromarray(DEEP) if mode == "I;16" else (GREY.convert("RGB") if mode == "CMYK" else GREY).convert(mode)
    image.save(tmp_path / "x.tif", compression=compression, tiffinfo={0x0112: 6})
    turned = np.asarray(decode(tmp_path / "x.tif"), int)
    assert np.abs(turned - np.stack([RAMP.T] * 3, -1)).max() <= 1


@pytest.mark.parametrize(("name", "turned"), [("folder", True), ("imagenette", False)])
def test_image_folders_are_turned_and_imagenets_images_are_not(name: str, turned: bool, tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6
    root = tmp_path / ("imagenette2" if name == "imagenette" else "")
    for label in "ab":
        (root / "val" / label).mkdir(parents=True)
        GREY.resize((16, 16)).save(root / "val" / label / "x.png", exif=exif)
    [(images, _)] = open_test(DataSpec(name, 16, 2, 3), tmp_path, LoaderOptions(4, "none", crop=1.0))
    assert bool(images[0, 0, 0].mean() < images[0, 0, -1].mean() - 1) is turned


def test_deep_grey_in_a_folder_reaches_the_network_as_a_ramp(tmp_path: Path):
    for label in "ab":
        (tmp_path / "val" / label).mkdir(parents=True)
        Image.fromarray(DEEP[:, ::64]).save(tmp_path / "val" / label / "x.png")
    [(images, _)] = open_test(DataSpec("folder", 4, 2, 3), tmp_path, LoaderOptions(4, "none", crop=1.0))
    levels = images[0, 0, 0] * 0.229 + 0.485
    assert np.allclose(levels * 255, RAMP[0, ::64], atol=0.01)


@pytest.mark.parametrize("name", ["broken_exif.png", "no_exif.png"])
def test_a_picture_with_broken_exif_is_preprocessed_as_it_lies(name: str, tmp_path: Path):
    made = Preprocessing(8, 3, (0.5,) * 3, (0.5,) * 3, upright=True)
    READ[name](tmp_path / name)
    with Image.open(tmp_path / name) as image:
        assert torch.equal(made(image), made(decode(tmp_path / name)))


def test_turning_leaves_the_callers_picture_alone():
    image = Image.new("RGB", (4, 2))
    image.getexif()[0x0112] = 6
    assert (turned(image).size, image.size) == ((2, 4), (4, 2))


def bomb(path: Path) -> None:
    """A PNG of a few bytes that claims 400 million pixels."""
    png(path, np.zeros((1, 1), np.uint16), 0)
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack(">II", 20_000, 20_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    path.write_bytes(content)


BROKEN = {name: REFUSED[name][0] for name in ("empty.png", "page.jpg", "cut.png", "cut.jpg")} | {"bomb.png": bomb}
SOUND = {
    **{name: READ[name] for name in ("palette_transparent.png", "rgba.png", "grey16.png", "first_frame.webp")},
    **{name: READ[name] for name in ("a_png.jpg", "a_webp.png", "broken_exif.png")},
    "cmyk.jpg": saved(GREY.convert("RGB").convert("CMYK"), quality=100),
}


def folder(root: Path, name: str, write: Callable[[Path], object]) -> Path:
    """Two classes of two ramps per split; one image of each split is another."""
    for split in ("train", "val", "test"):
        for label in "ab":
            (root / split / label).mkdir(parents=True)
            GREY.save(root / split / label / "x.png")
            GREY.save(root / split / label / "y.png")
        write(root / split / "b" / name)
    return root


def trained(root: Path) -> list[torch.Tensor]:
    options = LoaderOptions(5, "none", crop=1.0)
    with contextlib.closing(open_loaders(DataSpec("folder", 4, 2, 3), root, 0, options)) as loaders:
        return [images for images, _ in loaders.train]


def evaluated(root: Path) -> list[torch.Tensor]:
    return [images for images, _ in open_test(DataSpec("folder", 4, 2, 3), root, LoaderOptions(5, "none", crop=1.0))]


@pytest.mark.parametrize("name", SOUND)
def test_training_evaluation_and_check_read_the_same(name: str, tmp_path: Path):
    root = folder(tmp_path, name, SOUND[name])
    for images in (*trained(root), *evaluated(root)):
        assert len(images) == 5
        assert images.std(dim=0).max() < 0.05  # all are the ramp
    assert [item.error for item in read_images(read_splits("folder", root))] == [""] * 15


@pytest.mark.parametrize("name", BROKEN)
def test_training_evaluation_and_check_refuse_the_same_in_one_line(name: str, tmp_path: Path):
    root = folder(tmp_path, name, BROKEN[name])
    for read, split in ((trained, "train"), (evaluated, "test")):
        with pytest.raises(InputError) as caught:
            read(root)
        assert f"{root / split / 'b' / name} is not a readable image (" in str(caught.value)
        assert "\n" not in str(caught.value)
    errors = [item.error for item in read_images(read_splits("folder", root)) if item.error]
    assert [error.partition(" is not")[0] for error in errors] == [
        str(root / split / "b" / name) for split in ("train", "val", "test")
    ]


def test_predict_reads_and_refuses_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    torch.manual_seed(0)
    network = build_model(ModelSpec.preset("micro", in_channels=3), 3)
    network.head.fc.weight.data *= 10  # more sensitive
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    written = {"black.png": saved(BLACK), "ramp.png": saved(GREY), **SOUND, **BROKEN}
    for name, write in written.items():
        write(tmp_path / name)
    pictures = [str(tmp_path / name) for name in written]
    line = ["--weights", str(tmp_path / "weights.safetensors"), "--variant", "micro", "--data", "folder", "--json"]
    with pytest.raises(SystemExit) as ended:
        console(["predict", *pictures, *line])
    shown = capsys.readouterr()
    black, ramp, *others = [json.loads(text)["classes"] for text in shown.out.splitlines()]
    assert ended.value.code == 2
    assert len(others) == len(SOUND)
    assert abs(black[0]["probability"] - ramp[0]["probability"]) > 0.1
    for seen in others:
        assert [item["name"] for item in seen] == [item["name"] for item in ramp]
        expected = [item["probability"] for item in ramp]
        assert [item["probability"] for item in seen] == pytest.approx(expected, abs=0.02)
    errors = [text for text in shown.err.splitlines() if "is not a readable image" in text]
    assert [text.partition(" is not")[0] for text in errors] == [str(tmp_path / name) for name in BROKEN]


def test_a_class_name_of_two_lines_stands_on_one():
    lines = report_lines({"train": [0, 0, 1]}, ["cat\ndog", "fish"], [])
    assert lines[1:3] == ["    0         2  cat\\ndog", "    1         1  fish"]
