"""A cell: one network, one data set, one recipe, one seed; and the key that names it."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast, get_args

from mobileone_core.data.spec import AUGMENTATIONS, DATA_SETS, DataSpec
from mobileone_core.errors import refusing, require, require_choice, require_integer
from mobileone_core.fields import as_tuples, changed_parts, make_plain, option
from mobileone_core.model.libraries import LIBRARIES
from mobileone_core.model.spec import PRESETS, ModelSpec
from mobileone_core.onnx.scheme import Quantization
from mobileone_core.training.head import HeadSpec
from mobileone_core.training.named_networks import Expansion, read_name
from mobileone_core.training.recipe import PRETRAINING, Recipe, Teacher, corenet_scales, paper_phases
from mobileone_core.training.recipe_presets import recipe_preset
from mobileone_core.training.tasks import task_spec

VARIED = ("model", "recipe", "head", "quantization", "expand")  # the parts all of whose fields a study can set
DATA_FIELDS = ("data.image_size", "data.val_fraction")  # the fields of the data that a study can set
RECIPE = "recipe"  # the name by which a study sets the whole recipe
BACKBONE = "backbone"  # the name by which a study sets the whole network: a variant, or one of a library
MULTIPLES = ("model.width", "model.depth")  # names that multiply the widths and depths of the variant
SCHEMA = 1  # raised when a default changes; a new field with a default needs no new schema


@dataclass(frozen=True)
class CellSpec:
    """The definition of a cell: network, data, recipe, seed and task. How it runs (Execution) is no part of it.

    Instead of the model a cell may have a network by name (backbone): a classifier, which expand over-parameterizes in
    training, or what a detector or segmenter puts its head on. With quantization nothing is trained: the cell is the
    network of the cell float32, quantized and tested. Raises InputError if the task cannot train on the data, cannot
    follow the recipe, or cannot be quantized.

    Example:
        >>> CellSpec(seed=7).key
        '138113176795'
    """

    model: ModelSpec = field(default_factory=ModelSpec)
    data: DataSpec = field(default_factory=DataSpec)
    recipe: Recipe = field(default_factory=Recipe)
    seed: int = option(0, "Seed of initial weights, validation split, data order and augmentation.")
    task: str = option("classification", "What the network is trained for.")
    quantization: Quantization = field(default_factory=Quantization)
    backbone: str = option(
        "", "Network: a variant, timm:NAME, torchvision:NAME, or your own MODULE:FUNCTION(a=1, b=[2])."
    )
    head: HeadSpec = field(default_factory=HeadSpec)
    expand: Expansion = field(default_factory=Expansion)

    def __post_init__(self) -> None:
        make_plain(self)
        require_integer("seed", self.seed, at_least=0)
        task = task_spec(self.task)
        require_choice("data", self.data.name, task.data_sets)
        allowed = AUGMENTATIONS.get(self.task, (self.recipe.augmentation,))
        require_choice("augmentation", self.recipe.augmentation, allowed)
        recipe = self.recipe
        require(self.task == CellSpec.task or not recipe.scales, "scales", recipe.scales, f"none for {self.task}")
        require(task.can_distil or not recipe.teachers, "teachers", recipe.teachers, f"{self.task} has no distillation")
        self._check_backbone(task.has_head)
        require(task.has_head or self.head == HeadSpec(), "head", self.head, f"none for {self.task}")
        fits = recipe.init != PRETRAINING or (self.data.name == "scenes" and not self.backbone)
        require(fits, "init", recipe.init, "MobileOne on scenes, whose items can be classified first")
        fits = self.task == "classification" and DATA_SETS[self.data.name].in_memory and not self.is_quantized
        reason = "for float32 classifiers of images in memory; evaluate --robustness tests those of ImageNet"
        require(fits or not recipe.corrupted_test, "corrupted_test", True, reason)
        stages, frozen = len(self.model.depths), recipe.frozen_stages
        require(frozen <= stages, "frozen_stages", frozen, f"at most the network's stages, {stages}")
        fits = self.task == "classification" and not (recipe.teachers or self.backbone)
        only = "none; only MobileOne classifiers without teachers are quantized"
        require(fits or not self.is_quantized, "scheme", self.quantization.scheme, only)

    def _check_backbone(self, has_head: bool) -> None:
        library, _, arguments, _ = read_name(BACKBONE, self.backbone) if self.backbone else ("", "", {}, "")
        fits = not (has_head and library) or (library in LIBRARIES and not arguments)
        require(fits, BACKBONE, self.backbone, "timm:NAME or torchvision:NAME, without arguments")
        by_name, allowed = bool(library) and not has_head, "none; only a classifier by name (backbone) is expanded"
        require(by_name or self.expand == Expansion(), "expand", self.expand.method, allowed)
        for name in ("init", "head_lr_factor") if by_name else ():
            value, usual = getattr(self.recipe, name), getattr(Recipe, name)
            require(value == usual, name, value, f"{usual!r} for a classifier by name")

    @property
    def is_quantized(self) -> bool:
        """Whether the cell quantizes the network of another one instead of training."""
        return self.quantization.scheme != "none"

    @property
    def float32(self) -> "CellSpec":
        """The cell that trains the network of this one: itself, without quantization."""
        return replace(self, quantization=Quantization())

    @property
    def training(self) -> "CellSpec":
        """The cell whose training this one reads, averaging or none of weights apart, which leaves training alone."""
        return replace(self.float32, recipe=replace(self.recipe, ema_decay=0.0, corrupted_test=False))

    def changed(self, changes: Mapping[str, Any]) -> "CellSpec":
        """A copy with other fields, named like model.k; model.width and model.depth multiply the widths and depths.

        To another data.image_size the network is fitted (ModelSpec.fitted_to), and the paper's phases and CoreNet's
        scales are scaled. recipe is the name of a whole recipe.
        """
        data = {name.partition(".")[2]: changes[name] for name in DATA_FIELDS if name in changes}
        spec = self._with_data(replace(self.data, **data)) if data else self
        if RECIPE in changes:
            variant = next((name for name, preset in PRESETS.items() if preset.widths == spec.model.widths), "")
            spec = replace(spec, recipe=recipe_preset(changes[RECIPE], variant, spec.data.image_size))
        return (spec._with_backbone(changes[BACKBONE]) if BACKBONE in changes else spec)._with_parts(changes)

    def _with_backbone(self, name: str) -> "CellSpec":
        plain = ModelSpec(in_channels=self.model.in_channels, output_stride=self.model.output_stride)
        if name not in PRESETS:
            return replace(self, backbone=name, model=plain)
        model = ModelSpec.preset(name, in_channels=plain.in_channels, output_stride=plain.output_stride)
        return replace(self, backbone="", model=model.fitted_to(self.data.image_size))

    def _with_data(self, data: DataSpec) -> "CellSpec":
        fits = data.is_carved or data.val_fraction == self.data.val_fraction
        require(fits, "val_fraction", data.val_fraction, "the folder has val/ and test/: nothing is carved")
        if data.image_size == self.data.image_size:
            return replace(self, data=data)
        is_paper = self.recipe.phases == paper_phases(self.data.image_size)
        recipe = replace(self.recipe, phases=paper_phases(data.image_size)) if is_paper else self.recipe
        is_corenet = recipe.scales == corenet_scales(self.data.image_size)
        recipe = replace(recipe, scales=corenet_scales(data.image_size)) if is_corenet else recipe
        model = self.model.fitted_to(data.image_size, self.data.image_size)
        return replace(self, data=data, model=model, recipe=recipe)

    def _with_parts(self, changes: Mapping[str, Any]) -> "CellSpec":
        model = self.model.scaled(**{name.partition(".")[2]: changes[name] for name in MULTIPLES if name in changes})
        others = {name: changes[name] for name in changes if "." in name and name not in (*MULTIPLES, *DATA_FIELDS)}
        return replace(self, **changed_parts({name: getattr(self, name) for name in VARIED} | {"model": model}, others))

    def with_seed(self, seed: int) -> "CellSpec":
        """A copy with another seed. It is cheap, as is its key: the seeds of a setting share all else."""
        other = object.__new__(CellSpec)
        other.__dict__.update(self.__dict__, seed=require_integer("seed", seed, at_least=0), _unseeded=self._unseeded)
        return other

    @functools.cached_property
    def _unseeded(self) -> dict[str, Any]:
        """The differences from the defaults as JSON, without the seed's."""
        changes = {name: change for name, change in _differences(self).items() if name != "seed"}
        return dict(json.loads(json.dumps(changes, default=_differences)))

    @property
    def key(self) -> str:
        """The cell's name: a hash of the fields that differ from the defaults, and of the schema's version."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:12]

    def to_json(self) -> str:
        """The canonical text that the key hashes; from_json reads it."""
        content = {"schema": SCHEMA, **self._unseeded, **({"seed": self.seed} if self.seed else {})}
        return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)

    @classmethod
    @refusing("cell: written by another version")
    def from_json(cls, text: str) -> "CellSpec":
        """Read a cell. Raises InputError if a newer schema wrote it."""
        content = as_tuples(json.loads(text))
        schema = content.pop("schema", None)
        require(schema == SCHEMA, "schema", schema, f"this version reads records of schema {SCHEMA}")
        return cast("CellSpec", _rebuild(cls, content))


def teacher_cell(student: CellSpec, teacher: Teacher) -> CellSpec:
    """The cell that trains a student's teacher: same data, seed and recipe, from scratch. Raises InputError."""
    require(not teacher.weights, "teachers", teacher.network, "its weights come from a file: there is nothing to train")
    recipe = student.recipe.changed(teachers=(), init="", head_lr_factor=1.0, corrupted_test=False)
    model = teacher_model(student, teacher)
    return replace(student, model=model, recipe=recipe, backbone="", expand=Expansion())


def pretraining_cell(spec: CellSpec) -> CellSpec:
    """The cell in which a detector's or segmenter's backbone learns to classify the items of its scenes.

    It has the recipe of the items' data set and the cell's seed; all its strides are strides.
    """
    items = DATA_SETS[spec.data.items]
    data = DataSpec(spec.data.items, items.image_size, items.classes, items.channels, items.val_fraction)
    recipe = recipe_preset(task_spec(CellSpec.task).default_recipe(data.name))
    model = spec.model.changed(output_stride=ModelSpec.output_stride).fitted_to(data.image_size)
    return CellSpec(model, data, recipe, spec.seed)


def teacher_model(student: CellSpec, teacher: Teacher) -> ModelSpec:
    """The network of a teacher that is a variant, fitted to the student's images. Raises InputError."""
    require_choice("teachers", teacher.network, PRESETS)
    return ModelSpec.preset(teacher.network, in_channels=student.data.channels).fitted_to(student.data.image_size)


def _differences(spec: Any) -> dict[str, Any]:
    """The fields that differ from their defaults; fields without a default always.

    An integer in a float's place becomes a float, so that 1 and 1.0 are the same cell.
    """
    return {
        item.name: float(value) if isinstance(value, int) and float in (item.type, *get_args(item.type)) else value
        for item, default in _defaults(spec.__class__)
        if item.compare and (value := getattr(spec, item.name)) != default
    }


@functools.cache
def _defaults(spec_type: Any) -> tuple[tuple[dataclasses.Field[Any], Any], ...]:
    """The fields of a dataclass with their defaults; MISSING for fields without one."""
    return tuple(
        (item, item.default if item.default_factory is dataclasses.MISSING else item.default_factory())
        for item in dataclasses.fields(spec_type)
    )


def _rebuild(hint: Any, content: Any) -> Any:
    """The value of a field typed hint from its JSON: a spec from an object, a tuple of specs from a list of them."""
    if isinstance(content, tuple):
        return tuple(_rebuild(get_args(hint)[0], item) if isinstance(item, dict) else item for item in content)
    if not isinstance(content, dict):
        return content
    hints = {item.name: item.type for item in dataclasses.fields(hint)}
    unknown = ", ".join(sorted(set(content) - set(hints)))
    require(not unknown, hint.__name__, unknown, f"this version has the fields {', '.join(hints)}")
    return hint(**{name: _rebuild(hints[name], item) for name, item in content.items()})
