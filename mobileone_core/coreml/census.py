"""How many operators of each kind a deployed MobileOne must be: from its spec alone, no torch here."""

from collections import Counter
from itertools import chain

from mobileone_core.coreml.options import Options
from mobileone_core.model.spec import ModelSpec

HEAD = Counter(reduce_mean=1, reshape=1, linear=1)
CONTEXT = Counter(reduce_mean=1, conv=2, relu=1)  # the small network behind SE and the dynamic activations
SQUEEZE_EXCITE = CONTEXT + Counter(sigmoid=1, mul=1)
DYNAMIC_RELU = CONTEXT + Counter(sigmoid=1, mul=5, sub=1, split=1, add=3, maximum=1)
SHIFT_MAX = CONTEXT + Counter(sigmoid_hard=1, mul=5, sub=1, split=1, slice_by_index=2, concat=1, add=4, maximum=1)
ACTIVATIONS = {
    "relu": Counter(relu=1),
    "gelu": Counter(gelu=1),
    "silu": Counter(silu=1),
    "hardswish": Counter(thresholded_relu=1, sigmoid_hard=1, mul=1),
    "dynamic_relu_a": DYNAMIC_RELU,
    "dynamic_relu_b": DYNAMIC_RELU,
    "dynamic_shift_max": SHIFT_MAX,
}


def expected_census(spec: ModelSpec, options: Options) -> dict[str, int]:
    """Operators by kind: one convolution a block and its activation, SE where the spec has it, and the head.

    No addition and no normalization but what activations need; for an image as input one normalization, softmax, the
    label, and in float16 the casts at both ends.
    """
    counts = Counter(HEAD)
    for block in (spec.stem(), *chain.from_iterable(spec.stages())):
        counts += Counter(conv=1) + ACTIVATIONS[spec.activation]
        if block.se:
            counts += SQUEEZE_EXCITE
    if options.pixels:
        counts += Counter(add=1, mul=1, softmax=1, classify=1)
        counts += Counter(cast=2 if options.precision == "float16" else 0)
    return dict(counts)
