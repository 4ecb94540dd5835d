"""Where the cells of a trained study start: a variant, a recipe by name, what the study changes, and their options."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal, get_type_hints

from mobileone_core.data.catalog import check_root, resolve_data
from mobileone_core.data.check import short_lines
from mobileone_core.data.folders import read_folder
from mobileone_core.data.spec import DATA_SETS, SCENE_ITEMS, DataSpec, Phase
from mobileone_core.errors import InputError, require, require_choice
from mobileone_core.fields import help_texts, option
from mobileone_core.model.spec import ModelSpec
from mobileone_core.study.declaration import Study, TrainedStudy
from mobileone_core.study.options import Option, PlanRequest, StudyOptions, changed_options, spec_options
from mobileone_core.study.plan import Plan
from mobileone_core.study.weight_files import read_teachers, read_weight_file
from mobileone_core.training.cell import BACKBONE, RECIPE, CellSpec
from mobileone_core.training.head import head_preset
from mobileone_core.training.recipe import Teacher, paper_phases, split_fitted
from mobileone_core.training.recipe_presets import FITTED, RECIPES, recipe_preset
from mobileone_core.training.tasks import TASKS, task_spec

Phases = Literal["none", "paper"]
PARTS = {"": CellSpec, **get_type_hints(CellSpec)}  # types of a cell and its parts
LAPTOP_VARIANTS = ("micro", "tiny", "small")
LAPTOP_SIZES = {"classification": 64, "detection": 128, "segmentation": 128}  # pixels, where the recipe is fitted
LARGER = {"micro": "tiny", "tiny": "small", "small": "s0", "s0": "s1", "s1": "s2", "s2": "s3", "s3": "s4"}


@dataclass(frozen=True)
class Presets:
    """The presets that the remaining options start from."""

    data: str = field(metadata={"help": f"Data set: {', '.join(DATA_SETS)}; digits are embedded."})
    variant: str | None = option(
        None, "Network: s0 to s4 as published; micro, tiny and small, ours, for laptops; the data set's if not given."
    )
    data_root: Path | None = option(None, "Directory that holds the data set.")
    task: str | None = option(None, f"What networks are trained for: {', '.join(TASKS)}; the study's if not given.")
    items: str = option("digits", f"What scenes are composed of: {', '.join(SCENE_ITEMS)}.")
    image_size: int | None = option(
        None, "Resolution of the images, to which network and phases are fitted; the data set's if not given."
    )
    recipe: str | None = option(
        None, f"Recipe: {', '.join(RECIPES)}, or {FITTED} to the number of images; the data set's if not given."
    )


def preset_cell(
    variant: str, data: DataSpec, recipe: str, base: Mapping[str, Any] | None = None, task: str = CellSpec.task
) -> CellSpec:
    """A cell of presets: a variant fitted to the data's images, a recipe by name, changed by a study's base.

    A detector or segmenter has the head and the output stride of the recipe's configuration.
    """
    head, output_stride = head_preset(recipe if task_spec(task).has_head else "")
    model = ModelSpec.preset(variant, in_channels=data.channels, output_stride=output_stride).fitted_to(data.image_size)
    spec = CellSpec(model, data, recipe_preset(recipe, variant, data.image_size), task=task, head=head)
    changes = {name: value for name, value in (base or {}).items() if name != "data.image_size"}  # data has it
    if "recipe.phases" in changes:
        changes["recipe.phases"] = phases_preset(changes["recipe.phases"], data.image_size)
    if "recipe.teachers" in changes:  # "larger" is the next larger variant, and s4 for s4
        names = {"larger": LARGER.get(variant, variant)}
        changes["recipe.teachers"] = tuple(Teacher(names.get(name, name)) for name in changes["recipe.teachers"])
    return spec.changed(changes)


def phases_preset(name: Phases, image_size: int) -> tuple[Phase, ...]:
    """Progressive learning by name: "paper" for the paper's phases at a resolution, or "none"."""
    return paper_phases(image_size) if name == "paper" else ()


class TrainingOptions(StudyOptions):
    """The command line of a trained study: presets, then levels, fields of the network and fields of the recipe."""

    trains: ClassVar[bool] = True
    hidden: ClassVar[frozenset[str]] = frozenset()  # fields of a cell without an option, besides those of factors

    def __init__(self, study: Any) -> None:
        super().__init__(study)
        self.read_folder = lru_cache(maxsize=1)(read_folder)  # once per command

    @abstractmethod
    def plan(self, study: Any, base: CellSpec, usual: tuple[Any, CellSpec] | None) -> Plan:
        """The plan of a study and base cell with the options applied; usual is the pair with no option changed."""

    def presets(self) -> Presets:
        """The study's presets."""
        return Presets(self.study.data)

    def groups(self, presets: Presets, *, for_help: bool) -> dict[str, Any]:
        """Levels, network and training, with the values of the presets as defaults."""
        study, (_, base) = self.study, self._start(presets, for_help=for_help)
        varied = {name for factor in study.factors for name in factor.fields} | self.hidden
        recipe, has_head = _recipe_by_name(base), task_spec(base.task).has_head
        varied |= {"recipe.scales"} if has_head else set()  # the head has an option of this name
        if not has_head and any(factor.field == BACKBONE for factor in study.factors):  # levels are whole networks
            varied |= {f"model.{name}" for name in vars(base.model)}
        named = {"phases": (Phases, recipe["phases"]), "teachers": (tuple[str, ...], recipe["teachers"])}
        texts = help_texts(type(study))
        counts: list[Option] = [("seeds", int, study.seeds, texts["seeds"])]
        if "first_seed" in texts:
            auto = "With --seeds auto, as many seeds as find this difference, at most 20; points."
            counts = [("seeds", int | Literal["auto"], study.seeds, texts["seeds"])]
            counts += [("first_seed", int, study.first_seed, texts["first_seed"]), ("detect", float, 0.5, auto)]
        groups = {"levels": self.level_options(PARTS, counts), **self.study_groups()}
        groups["network"] = spec_options("Fields of the network.", base.model, varied, part="model.")
        if has_head:
            groups["head"] = spec_options("Fields of the head.", base.head, varied, part="head.")
        groups["training"] = spec_options("Fields of the recipe.", base.recipe, varied, named, part="recipe.")
        return groups

    def study_groups(self) -> dict[str, Any]:
        """Groups of options that set fields of the study."""
        return {}

    def request(self, presets: Presets, line: Any) -> PlanRequest:
        """The plan of a parsed command line, and its local files. Raises InputError."""
        sizes = [item.name for item in self.study.factors if "data.image_size" in item.fields]
        fits = not sizes or presets.image_size is None
        require(fits, "image_size", presets.image_size, f"--{' --'.join(sizes)} sets it")
        (fields, base), weights = self._start(presets), (line.running.run_weights, not line.running.plan)
        images = base.data.train_images
        for name in (factor.name for factor in self.study.factors if factor.field == RECIPE):
            require(presets.recipe is None, "recipe", presets.recipe, f"--{name} sets it")
            for recipe, number in map(split_fitted, getattr(line.levels, name)):
                fits = not number or int(number) == images
                require(fits, name, f"{recipe}-{number}", f"the data have {images} training images: {recipe}-{images}")
        changes = changed_options(line.training, _recipe_by_name(base))
        if base.recipe.warmup_epochs > changes.get("epochs", base.recipe.epochs):
            changes.setdefault("warmup_epochs", base.recipe.warmup_epochs * changes["epochs"] / base.recipe.epochs)
        if "phases" in changes:
            changes["phases"] = phases_preset(changes["phases"], base.data.image_size)
        files = dict[str, Path]()
        if "teachers" in changes:
            changes["teachers"], files = read_teachers(changes["teachers"], *weights)
        if "init" in changes:
            changes["init"], more = read_weight_file("init", changes["init"], *weights)
            files |= more
        model = base.model.changed(**changed_options(line.network, vars(base.model)))
        has_head = task_spec(base.task).has_head
        head = replace(base.head, **changed_options(line.head, vars(base.head))) if has_head else base.head
        fields |= {name: value for group in self.study_groups() for name, value in vars(getattr(line, group)).items()}
        fields |= {name: value for name, value in vars(line.levels).items() if name in ("seeds", "first_seed")}
        study = replace(self.study, factors=self.requested_factors(line.levels), **fields)
        try:
            own_fields, own_base = self._start(replace(self.presets(), data_root=presets.data_root))
            usual = replace(self.study, **own_fields), own_base
        except InputError:  # the study's own data are not in this root
            usual = None
        base = replace(base, model=model, recipe=base.recipe.changed(**changes), head=head)
        plan = self.plan(study, base, usual)
        folder = self.read_folder(check_root("folder", presets.data_root)) if presets.data == "folder" else {}
        return PlanRequest(plan, presets.data_root, files, short_lines(folder) if folder else ())

    def _start(self, presets: Presets, *, for_help: bool = False) -> tuple[dict[str, Any], CellSpec]:
        """The fields of the study that presets set, and its base cell. Raises InputError.

        What presets leave open is the study's, or for data or a task that are not the study's the usual one of these.
        A fitted recipe is named by the number of training images.
        """
        study, name, task_name = self.study, presets.data, presets.task or self.study.task
        task, entry, is_own = task_spec(task_name), DATA_SETS.get(name), name == study.data
        variant = presets.variant or (None if is_own else task.variants.get(name)) or study.variant
        is_declared = study.recipe != TrainedStudy.recipe or name == TrainedStudy.data
        has_recipe = is_declared and is_own and task_name == study.task
        recipe = presets.recipe or (study.recipe if has_recipe else task.default_recipe(name))
        size = presets.image_size
        if size is None and is_own:
            size = study.base.get("data.image_size")
        kind, images = split_fitted(recipe)
        is_fitted = kind == FITTED or (kind == task.fitted and images != "")
        if size is None and entry and is_fitted:
            size = min(entry.image_size, LAPTOP_SIZES[task_name] if variant in LAPTOP_VARIANTS else entry.image_size)
        try:
            require_choice("data", name, task.data_sets)
            data = resolve_data(
                name, presets.data_root, size, read=self.read_folder, task=task_name, items=presets.items
            )
        except InputError:
            if not for_help:
                raise
            data = resolve_data("digits", None)
        if recipe == FITTED:
            require(data.train_images > 0, "recipe", recipe, f"the number of images of {data.name} is not known")
            images = str(data.train_images)
        recipe = f"{task.fitted}-{images}" if is_fitted else recipe
        fields = {"variant": variant, "data": name, "recipe": recipe, "task": task_name}
        if isinstance(study, Study) and task_name != study.task:
            fields["metric"] = task.metric
        return fields, preset_cell(variant, data, recipe, study.base, task_name)


def _recipe_by_name(base: CellSpec) -> dict[str, Any]:
    """The recipe's fields as typed: phases and teachers by name."""
    recipe = base.recipe
    is_paper = recipe.phases and recipe.phases == phases_preset("paper", base.data.image_size)
    phases, teachers = "paper" if is_paper else "none", tuple(item.network for item in recipe.teachers)
    return vars(recipe) | {"phases": phases, "teachers": teachers}
