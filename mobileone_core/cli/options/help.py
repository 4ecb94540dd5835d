"""What the help says of the options that are made from data. Imports nothing heavy."""

from typing import Any

from mobileone_core.fields import help_texts
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
    "model": "A network of table 9, or one of ours.",
    "form": "With the branches of training, or deployed: one convolution a block.",
    "k": "Parallel conv-BN branches of a block in train form, 1 to 16; 0 as the variant has it.",
    "activation": "Activation after every convolution; _rank5 is the usual, transposed form of the dynamic ones.",
    "block": "What stands around every convolution: nothing, SE, a skip connection, both.",
    "depth": "Convolutions after the stem.",
    "width": "Channels of every one.",
    "kernel_size": "Kernel of every one, odd.",
    "stem_stride": "Stride of the first convolution, which reads the image.",
    "name": "What executes the network.",
    "threads": "Threads within a call.",
    "precision": "Numbers that weights and activations are kept in.",
    "layout": "Memory format of activations.",
    "image_size": "Pixels along a side of the image, of which there is one a call.",
    "rounds": "Rounds: the replicates of a measurement, in each of which every network has its turn.",
    "burst": "Timed calls of a turn.",
    "warmup": "Untimed calls of every network at the start.",
    "untimed": "Untimed calls before a turn's timed ones.",
    "seed": "Draws the order of the turns.",
    "trim": "Fastest and slowest calls of a turn that the trimmed statistics leave out, each.",
    "reload": "Load the network anew at every turn.",
}
STEP_HELP = {
    "variant": "Network: s0 to s4 as published; tiny and small, ours, for laptops.",
    "k": "Parallel conv-BN branches of a block, 1 to 16.",
    "path": "branches, each by itself; folded into one convolution; auto, the faster of both block by block; timm, its "
    "network of that name, which it has for s0 to s4 with their own k alone.",
    "batch_size": "Images a step.",
    "image_size": "Pixels along a side of an image.",
    "num_classes": "Classes.",
    "threads": "Threads within a step, on a CPU.",
    "device": "Where a step runs: cpu, or the first CUDA device.",
    "precision": "Arithmetic of a step.",
    "channels_last": "Channels-last memory format; on a GPU alone.",
    "compile": "Compile the network with torch.compile.",
}
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
