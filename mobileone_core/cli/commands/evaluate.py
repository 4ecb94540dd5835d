"""The command `mobileone evaluate`: everything is checked before a run is recorded."""

import contextlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text
from torchmetrics import MetricCollection

from mobileone_core.cli.commands.source import NetworkSource, open_source
from mobileone_core.cli.guard import COMPLETE
from mobileone_core.cli.options.evaluate import Evaluate, Images
from mobileone_core.data import robustness
from mobileone_core.data.catalog import check_root, class_names
from mobileone_core.data.classes import IMAGENET_CLASSES, network_classes, read_class_map, shown_names
from mobileone_core.data.epochs import WHOLE, BatchLoader
from mobileone_core.data.folders import class_folders, find_test
from mobileone_core.data.loaders import LoaderOptions, open_loaders, open_test
from mobileone_core.data.spec import DATA_SETS, DataSpec
from mobileone_core.errors import require
from mobileone_core.model.spec import PRESETS, ModelSpec
from mobileone_core.reporting.evaluation import EvaluationSetting, corruption_table, evaluation_table
from mobileone_core.study.environment import environment_tags
from mobileone_core.study.presets import preset_cell
from mobileone_core.study.record.standalone import standalone_run
from mobileone_core.study.run.runner import SignalGuard
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.evaluate import evaluate
from mobileone_core.training.execution import Execution, resolve_device
from mobileone_core.training.model_card import ModelCard, data_title, model_card
from mobileone_core.training.recipe import Recipe
from mobileone_core.training.tasks import task_spec
from mobileone_core.training.tasks.task import build_task

INTERVAL = 30.0  # seconds between two lines if the output is no terminal


def evaluate_checkpoint(options: Evaluate) -> int:
    """Evaluate a run or a checkpoint, record, print the table; return the exit status. Raises InputError."""
    execution = Execution(options.device, options.threads or torch.get_num_threads(), options.channels_last)
    device = resolve_device(execution, options.precision)
    layout = execution.memory_format(device, options.precision)
    torch.set_num_threads(execution.threads)
    source = open_source(options, options.form, options.images.image_size, card=_described(options))
    require(options.task in ("", source.task), "task", options.task, f"{source.task}, that of {source.file}")
    require(not (source.cell and options.robustness), "robustness", options.robustness, "for MobileOne classifiers")
    read = _annotated if source.cell else _images
    images = _robustness_images(options, source) if options.robustness else [read(options, source)]
    data, stage = images[0].data, options.images.split
    task = build_task(images[0].cell or CellSpec(source.network.spec, data, Recipe(label_smoothing=0.0)))
    measure = partial(evaluate, source.network, task, stage=stage, device=device, precision=options.precision)
    params = {"model": asdict(task.spec.model), "data": asdict(data), "batch_size": options.batch_size}
    read_as = source.card.preprocessing if source.card else None
    reading = 1.0 if images[0].corruption else options.images.crop, options.images.interpolation
    normalization = (read_as.mean, read_as.std) if read_as else None
    loading = LoaderOptions(options.batch_size, "none", (), device, execution.threads, WHOLE, *reading, normalization)
    interrupt, measured = SignalGuard(), list[dict[str, float]]()
    mistakes = None if options.robustness else task.mistakes()
    with interrupt.installed(), contextlib.closing(images[0].open(loading)) as first:
        setting = _setting(options, source, images, first.plan.count)
        name = f"{source.variant} {options.robustness or data.name} {source.run_id or source.file}"
        tags = {name: str(value) for name, value in asdict(setting).items() if name != "is_preset"}
        tags |= {"task": source.task, "weights": source.file, "sha256": source.sha256, "precision": options.precision}
        tags |= {"evaluated_run": source.run_id} if source.run_id else {}
        tags |= environment_tags(execution)
        with standalone_run(options.storage.workspace, "evaluate", name, tags, params) as writing:
            for item in images:
                opened, measure = item.open(loading) if measured else first, partial(measure, subset=item.subset)
                with contextlib.closing(opened) as batches, _progress(batches.plan.count, interrupt) as show:
                    measured.append(measure(batches, layout=layout, progress=show, mistakes=mistakes))
            table, metrics = _results(setting, images, measured)
            writing.log(metrics)
            if mistakes is not None:
                _save(options, source, mistakes, writing)
    print(f"\n{table}")
    print(f"\nrun {writing.run_id}: {measured[-1]['time/images_per_second']:.0f} images per second, decoding included")
    return COMPLETE


def _save(options: Evaluate, source: NetworkSource, mistakes: Any, writing: Any) -> None:
    """Save mistakes with an evaluation, and with the detector's or segmenter's run whose own test set it covers."""
    is_own = (options.images, options.which, options.data, options.data_root) == (Images(), "auto", "", None)
    run_id = source.run_id if is_own and source.task != CellSpec.task else ""
    with tempfile.TemporaryDirectory() as directory:
        for file in mistakes.save(Path(directory), source.class_names):
            for item in filter(None, (writing.run_id, run_id)):
                writing.client.log_artifact(item, str(file))


def _results(
    setting: EvaluationSetting, images: Sequence["EvaluatedImages"], measured: Sequence[dict[str, float]]
) -> tuple[str, dict[str, float]]:
    if images[0].cell:
        named = {name: value for name, value in measured[0].items() if name.startswith(setting.split)}
        return "\n".join(f"{name:<16}{value:>9.4f}" for name, value in named.items()), measured[0]
    pairs = zip(images, measured, strict=True)
    errors = {item.corruption: 1 - result["test/top1"] for item, result in pairs if item.corruption}
    if not errors:
        return evaluation_table(setting, measured[0]), measured[0]
    counts = {int(item["test/images"]) for item in measured}
    is_whole = setting.data == "imagenet-c" and counts == {robustness.SETS[setting.data][0]}
    metrics = robustness.corruption_metrics(errors, is_whole=is_whole)
    return corruption_table(setting, errors, robustness.ALEXNET_ERRORS, metrics), metrics


def _described(options: Evaluate) -> ModelCard | None:
    """The card of a detector or segmenter in a file that the options describe; None if they do not."""
    if not options.variant or options.task in ("", CellSpec.task):
        return None
    data = options.resolved(options.data, options.data_root)
    recipe = options.recipe or task_spec(options.task).default_recipe(data.name)
    changes = {"backbone": options.variant, **{f"model.{name}": item for name, item in options.network.changes.items()}}
    return model_card(preset_cell("s0", data, recipe, changes, options.task), options.data_root)


@dataclass(frozen=True)
class EvaluatedImages:
    """A split of a data set, its root, and a function that opens the split's batches.

    subset: numbers of the classes that the split has, if some are missing. corruption: that of ImageNet-C, whose images
    are read whole. cell: of a detector, a segmenter or a library's classifier, with these data.
    """

    data: DataSpec
    root: Path | None
    open: Callable[[LoaderOptions], BatchLoader]
    subset: tuple[int, ...] = ()
    corruption: robustness.Corruption | None = None
    cell: CellSpec | None = None


def _annotated(options: Evaluate, source: NetworkSource) -> EvaluatedImages:
    """The images that a network described by a cell is evaluated on, by default its own. Raises InputError."""
    card = source.card
    assert card is not None  # it holds the cell
    own, name = card.cell.data, options.data or card.cell.data.name
    root = options.data_root or (Path(card.data_root) if card.data_root and name == own.name else None)
    require(options.class_map is None, "class_map", str(options.class_map), f"none for {source.task}")
    data = options.resolved(name, root, own.image_size, task=source.task, items=own.items)
    names = shown_names(data, root) if card.class_names else ()
    fits = (data.num_classes, data.channels, names) == (own.num_classes, own.channels, card.class_names)
    require(fits, "data", name, f"the network's {own.num_classes} classes, in its order, and {own.channels} channels")
    if (options.images.split, name) == ("val", own.name):  # carved from the images that it was trained on, or refused
        data = replace(own, image_size=data.image_size)
    cell, stage = replace(card.cell, data=data, recipe=card.cell.recipe.changed(init="")), options.images.split
    task = build_task(cell)
    return EvaluatedImages(data, root, lambda loading: getattr(task.open_data(root, loading), stage), cell=cell)


def _images(options: Evaluate, source: NetworkSource) -> EvaluatedImages:
    """The images that are evaluated: those of the options, by default the run's. Raises InputError."""
    card, count = source.card, source.network.num_classes
    name, root, size = options.data, options.data_root, None
    if card is not None:
        name, size = options.data or card.cell.data.name, card.preprocessing.image_size
        root = root or (Path(card.data_root) if card.data_root and name == card.cell.data.name else None)
    data = options.resolved(name, root, size)
    channels = source.network.spec.in_channels
    require(data.channels == channels, "data", name, f"images of {channels} channels, as the network reads")
    if card is not None and data.image_size != card.preprocessing.image_size:
        trained = card.preprocessing.image_size
        print(f"warning: weights trained at {trained} px are evaluated at {data.image_size} px", file=sys.stderr)
    names, has_folders = source.class_names, not DATA_SETS[name].in_memory and name != "imagenet"
    if options.images.split == "val" or not has_folders:
        fits = not has_folders or not names or names == class_names(data, root)
        require(fits and data.num_classes == count, "data", name, f"the network's {count} classes")
        seed = 0
        if card is not None and source.run_id and name == card.cell.data.name:
            trained_on, seed = card.cell.data, card.cell.seed
            is_same = options.images.split == "test" or data.fingerprint == trained_on.fingerprint
            allowed = "the very images that the run was trained on: validation is carved from them"
            require(is_same, "data_root", str(root), allowed)
            data = replace(data, val_fraction=trained_on.val_fraction)
        if options.images.split == "val":
            return EvaluatedImages(data, root, lambda loading: open_loaders(data, root, seed, loading).val)
        return EvaluatedImages(data, root, partial(open_test, data, root))
    folders = tuple(class_folders(find_test(check_root(name, root) / DATA_SETS[name].directory)[1]))
    mapping = {} if options.class_map is None else read_class_map(options.class_map)
    classes = network_classes(folders, names, count, mapping)
    data = replace(options.resolved(name, root, size, classes=classes), num_classes=count)
    subset = tuple(number for number, item in enumerate(classes) if item in set(folders))
    subset = subset if len(subset) < count else ()
    return EvaluatedImages(data, root, partial(open_test, data, root, classes=classes), subset)


def _robustness_images(options: Evaluate, source: NetworkSource) -> list[EvaluatedImages]:
    """The parts of a robustness set, decided among the classes that it has. Raises InputError."""
    name, count, card = str(options.robustness), source.network.num_classes, source.card
    fits = (count, source.network.spec.in_channels) == (IMAGENET_CLASSES, 3)
    require(fits, "robustness", name, f"for RGB images of ImageNet's 1000 classes; the network has {count} classes")
    size = options.images.image_size or (card.preprocessing.image_size if card else DATA_SETS["imagenet"].image_size)
    data = DataSpec("imagenet", size, count, 3)
    folders = robustness.robustness_folders(name, options.data_root)
    parts = []
    for item, folder in folders.items():
        classes, subset = robustness.robustness_classes(folder, source.class_names)
        parts.append(EvaluatedImages(data, folder, partial(open_test, data, folder, classes=classes), subset, item))
    return parts


def _setting(options: Evaluate, source: NetworkSource, parts: list[EvaluatedImages], count: int) -> EvaluationSetting:
    """The setting of an evaluation: parts, the first of count images; a whole robustness set has its name."""
    images, data = parts[0], parts[0].data
    present = {len(item.subset) or data.num_classes for item in parts}
    title = data_title(data.name, str(images.root or ""), data.fingerprint)
    if options.robustness:
        is_whole = (count, min(present), len(parts)) == robustness.SETS[options.robustness]
        title = f"{'' if is_whole else 'part of '}{options.robustness}"
        if not is_whole:
            whole = "{:,} images of {} classes in {} folders".format(*robustness.SETS[options.robustness])
            print(f"warning: {title}, and no value of it: the set has {whole}", file=sys.stderr)
    is_variant = source.variant in PRESETS and images.cell is None
    is_deployed = any("reparam" in name for name in source.network.state_dict())
    is_read_whole = DATA_SETS[data.name].in_memory or images.corruption or images.cell
    preset = ModelSpec.preset(source.variant, in_channels=data.channels) if is_variant else None
    return EvaluationSetting(
        variant=source.variant,
        is_preset=preset is not None and source.network.spec == preset.fitted_to(data.image_size),
        data=title,
        split=options.images.split,
        form="deployed" if is_deployed or options.form == "deployed" else "train",
        crop="none" if is_read_whole else f"{options.images.crop:g}",
        interpolation=options.images.interpolation,
        image_size=data.image_size,
        classes=data.num_classes,
        present=min(present),
    )


@contextlib.contextmanager
def _progress(images: int, interrupt: SignalGuard) -> Iterator[Callable[[int, MetricCollection], None]]:
    """A function that shows images done and their top-1: a bar on a terminal, else a line every INTERVAL seconds."""
    console, last_line = Console(), time.monotonic()
    columns = (BarColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    task = bar.add_task(f"0 of {images} images", total=images)

    def show(done: int, metrics: MetricCollection) -> None:
        nonlocal last_line
        interrupt.check()
        top1 = f", top-1 {100 * float(metrics['top1'].compute()):.2f} %" if "top1" in metrics else ""
        line = f"{done} of {images} images{top1}"
        bar.update(task, completed=done, description=line)
        if not console.is_terminal and time.monotonic() - last_line > INTERVAL:
            last_line = time.monotonic()
            console.print(Text(line), soft_wrap=True)

    if not console.is_terminal:
        console.print(f"{images} images to read")
    with bar:
        yield show
