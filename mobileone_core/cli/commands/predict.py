"""The command `mobileone predict`."""

import io
import itertools
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

from mobileone_core.cli.commands.source import interface_of, open_source
from mobileone_core.cli.guard import BAD_INPUT, COMPLETE
from mobileone_core.cli.options.network import Predict
from mobileone_core.data.folders import EXTENSIONS, is_hidden
from mobileone_core.data.images import decode
from mobileone_core.errors import InputError, require
from mobileone_core.files import require_writable, write_content
from mobileone_core.texts import visible
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.tasks.dense import Annotation, describe, draw, resized
from mobileone_core.training.tasks.task import build_task

SCORE = "score_threshold"
UNREAD = {"classification": ("output", SCORE), "detection": ("top",), "segmentation": ("top", SCORE)}  # options


def predict(options: Predict) -> int:
    """Print what the network sees in every picture; return the exit status. Raises InputError.

    A picture that cannot be read is one line on standard error and exit status 2, after the others were done.
    """
    source = open_source(options, "deployed", say=partial(print, file=sys.stderr))
    for name in UNREAD[source.task]:
        value = getattr(options, name)
        require(value == getattr(Predict, name), name, str(value), f"{source.task} does not read it: leave it out")
    preprocessing, names, _ = interface_of(options, source)
    count = source.card.cell.data.num_classes if source.card else source.network.num_classes
    names = names if len(names) == count else tuple(f"class {number}" for number in range(count))
    paths, status = [*dict.fromkeys(_files(options.images))], COMPLETE
    task = build_task(source.cell) if source.cell and source.task != CellSpec.task else None
    outputs = _outputs(options, paths) if task else {}
    for path in paths:
        try:
            image = decode(path)
            with torch.inference_mode():
                seen = source.network(pixels := preprocessing(image)[None])
            if task:
                [predicted] = task.predictions(seen, pixels)
                shown = resized(predicted, pixels.shape[-1], image.size[::-1], options.score_threshold)
                result = _drawn(shown, image, outputs[path], names)
            else:
                best = zip(*map(Tensor.tolist, seen[0].float().softmax(0).topk(min(options.top, count))), strict=True)
                result = {"classes": [{"name": names[number], "probability": value} for value, number in best]}
        except (InputError, OSError) as error:
            print(visible(str(error)), file=sys.stderr)
            status = BAD_INPUT
            continue
        result = {"image": str(path), **result}
        print(json.dumps(result) if options.json else visible("\n".join(_lines(result))))
    return status


def _drawn(shown: Annotation, image: Image.Image, output: Path, names: Sequence[str]) -> dict[str, Any]:
    """Objects or classes as JSON, drawn into a file."""
    file = io.BytesIO()
    picture = to_pil_image(draw(pil_to_tensor(image), shown, names))
    picture.save(file, Image.registered_extensions()[output.suffix.lower()])
    write_content(output, file.getvalue())
    return {"output": str(output), "objects" if isinstance(shown, dict) else "classes": describe(shown, names)}


def _outputs(options: Predict, paths: Sequence[Path]) -> dict[Path, Path]:
    """The file of each drawn picture, none of which is a picture that is read. Raises InputError."""
    output, taken, outputs = options.output or Path("predictions"), {path.resolve() for path in paths}, {}
    is_file = output.suffix.lower() in EXTENSIONS and not output.is_dir()
    require_writable("output", output.parent if is_file else output)
    require(not is_file or len(paths) == 1, "output", str(output), f"a directory, for {len(paths)} pictures")
    require(output.resolve() not in taken, "output", str(output), "another file than the picture")
    for path in paths:
        marks = (f"-{number}" if number > 1 else "" for number in itertools.count(1))
        names = [output] if is_file else (output / f"{path.stem}-predicted{mark}.png" for mark in marks)
        outputs[path] = next(name for name in names if name.resolve() not in taken)
        taken.add(outputs[path].resolve())
    return outputs


def _lines(result: Mapping[str, Any]) -> Iterator[str]:
    """A picture and its drawn copy, then a line per class or object: percent, name, and a box's corners in pixels."""
    *files, rows = result.values()
    yield " -> ".join(files)
    for row in rows:
        name, value, *box = row.values()
        yield f"  {100 * value:6.2f} %  {name}" + "".join(f" {corner:.0f}" for corner in itertools.chain(*box))


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    """The files, and the images below the directories. Raises InputError for a directory without any."""
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        below = [item for item in sorted(path.rglob("*")) if item.suffix.lower() in EXTENSIONS]
        below = [item for item in below if not any(map(is_hidden, item.relative_to(path).parts))]
        if not below:
            raise InputError(f"images: {path} holds no image ({', '.join(EXTENSIONS)})")
        yield from below
