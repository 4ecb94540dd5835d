"""The command `mobileone predict`."""

import json
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import torch

from mobileone_core.cli.commands.source import interface_of, source_of
from mobileone_core.cli.guard import BAD_INPUT, COMPLETE
from mobileone_core.cli.options.predict import Predict
from mobileone_core.data.folders import EXTENSIONS, is_hidden
from mobileone_core.data.images import decode
from mobileone_core.errors import InputError


def predict(options: Predict) -> int:
    """Print the classes of every picture; return the exit status. Raises InputError.

    A picture that cannot be read is one line on standard error and exit status 2, after the others were done.
    """
    source = source_of(options, "deployed", say=partial(print, file=sys.stderr))
    preprocessing, names, _ = interface_of(options, source)
    count, status = source.network.num_classes, COMPLETE
    names = names if len(names) == count else tuple(f"class {number}" for number in range(count))
    for path in list(_files(options.images)):
        try:
            image = preprocessing(decode(path))
        except (InputError, OSError) as error:
            print(error, file=sys.stderr)
            status = BAD_INPUT
            continue
        with torch.inference_mode():
            best = source.network(image[None])[0].float().softmax(0).topk(min(options.top, count))
        classes = [(names[number], value) for value, number in zip(*map(torch.Tensor.tolist, best), strict=True)]
        if options.json:
            print(json.dumps({"image": str(path), "classes": [{"name": n, "probability": p} for n, p in classes]}))
        else:
            print("\n".join([str(path), *(f"  {100 * value:6.2f} %  {name}" for name, value in classes)]))
    return status


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
