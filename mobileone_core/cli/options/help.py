"""What the help says of the options that are made from data. Imports nothing heavy."""

from typing import Any

from mobileone_core.benchmark.protocol import Protocol
from mobileone_core.benchmark.step_cell import StepCell
from mobileone_core.fields import help_texts
from mobileone_core.latency.cell import Chain, LatencyCell, NamedNetwork, Runtime
from mobileone_core.study.factor import Factor, level_text
from mobileone_core.training.cell import MULTIPLES, VARIED
from mobileone_core.training.recipe import Recipe

HELP = {
    "widths": "Output channels of each stage.",
    "depths": "Blocks of each stage, a depthwise and a pointwise one each.",
    "k": "Parallel conv-BN branches of a block while it trains, 1 to 16.",
    "reparam": "The branches of training; without them one conv-BN a block, and k = 1.",
    "activation": "Activation of every block; the dynamic ones add layers of their own.",
    "se": "Squeeze-and-excite: none, paper (S4's placement), all, or blocks that have it at the end of each stage.",
    "stem_k": "Parallel conv-BN branches of the first block, 1 to 16.",
    "stem_stride": "Stride of the first block.",
    "stage_strides": "Stride of each stage's first block.",
    **help_texts(Recipe),
}
MEASURED_HELP = {
    name: text
    for part in (NamedNetwork, Chain, Runtime, LatencyCell, Protocol)
    for name, text in help_texts(part).items()
}
STEP_HELP = help_texts(StepCell)
SEEDS = "Cells a level, with seeds 0, 1 and so on."
SEARCH_HELP = {
    "widths": "Multiples of the channels, chosen stage by stage.",
    "depths": "Multiples of the blocks, chosen stage by stage.",
    "generations": "Rounds of proposals; more of them go on with the same search.",
    "population": "Candidates a generation.",
    "sampler": "Who proposes: Optuna's nsga2, tpe or random.",
    "search_seed": "Seed of the proposals.",
    "variants": "Hand-made networks to be held against; the first is the one that latencies are ratios to.",
    "variant_k": "Branches of each of them.",
    "seeds": "Further seeds, 1 and so on, of the front and the hand-made networks at the end.",
}
HELP_OF = {"step": STEP_HELP}  # the parts of a measured cell whose fields are called alike and mean something else
INTEGERS = "Several integers as 0,0,1,1."


def level_help(factor: Factor, *, typed: bool) -> str:
    """What a factor's levels set, and its baseline; typed says that a level of several integers is one word."""
    baseline = level_text(factor.baseline)
    if factor.settings:
        labels = "; ".join(f"{label}: {_label_words(factor, label)}" for label in factor.settings)
        return f"{labels}. Baseline {baseline}."
    if factor.field in MULTIPLES:
        name = factor.field.partition(".")[2]
        rounded = {"width": ", rounded to a multiple of 8", "depth": ", at least one block a stage"}[name]
        return f"Multiples of the variant's {name}s{rounded}; baseline {baseline}."
    part, _, name = factor.field.rpartition(".")
    help_texts = HELP if part in VARIED else HELP_OF.get(part, MEASURED_HELP)
    texts = [f"Levels of {factor.field}; baseline {baseline}.", help_texts[name]]
    return " ".join([*texts, *([INTEGERS] if typed else [])])


def _label_words(factor: Factor, label: str) -> str:
    """The fields that a label sets, with their values; one that sets none leaves them to their own options."""
    sets = factor.settings[label]
    if sets:
        return ", ".join(f"{name.partition('.')[2]} {_value(value)}" for name, value in sets.items())
    others = dict.fromkeys(name for changes in factor.settings.values() for name in changes)
    options = [f"--{name.partition('.')[2].replace('_', '-')}" for name in others]
    return f"as {' and '.join(options)} {'has' if len(options) == 1 else 'have'} it"


def _value(value: Any) -> str:  # noqa: ANN401
    """As printed; nothing for an empty tuple is none."""
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value == () else level_text(value)
