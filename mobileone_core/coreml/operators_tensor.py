"""Operators on tensors: element by element, those that rearrange values, products, reductions and normalization."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from mobileone_core.coreml.operators import Inputs, Operator, Value

UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    name: getattr(torch, name)
    for name in (
        *("abs", "ceil", "cos", "erf", "exp", "floor", "logical_not"),
        *("relu", "sigmoid", "sign", "sin", "sqrt", "square", "tanh"),
    )
}
UNARY |= {"relu6": F.relu6, "silu": F.silu, "softplus": F.softplus, "softsign": F.softsign, "identity": lambda x: x}
BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    name: getattr(torch, name)
    for name in (
        *("add", "sub", "mul", "pow", "maximum", "minimum", "logical_and", "logical_or"),
        *("greater", "greater_equal", "less", "less_equal", "not_equal"),
    )
}
BINARY |= {"equal": torch.eq, "floor_div": torch.floor_divide, "mod": torch.remainder, "real_div": torch.div}
CASTS = {"fp16": torch.float32, "fp32": torch.float32, "int32": torch.int32, "bool": torch.bool}
GELUS: dict[str, Callable[[Tensor], Tensor]] = {
    "EXACT": F.gelu,
    "TANH_APPROXIMATION": lambda x: F.gelu(x, approximate="tanh"),
    "SIGMOID_APPROXIMATION": lambda x: x * torch.sigmoid(1.702 * x),
}
REDUCTIONS: dict[str, Callable[[Tensor, list[int], bool], Tensor]] = {
    "reduce_mean": lambda x, axes, keep: x.mean(axes, keep),
    "reduce_sum": lambda x, axes, keep: x.sum(axes, keep),
    "reduce_max": lambda x, axes, keep: x.amax(axes, keep),
    "reduce_min": lambda x, axes, keep: x.amin(axes, keep),
    "reduce_l2_norm": lambda x, axes, keep: x.square().sum(axes, keep).sqrt(),
    "reduce_sum_square": lambda x, axes, keep: x.square().sum(axes, keep),
}


def reshape(inputs: Inputs) -> Tensor:
    """Reshape x; -1 infers a size, 0 keeps the axis."""
    x, shape = inputs.tensor("x"), inputs.ints("shape")
    return x.reshape([x.shape[index] if size == 0 else size for index, size in enumerate(shape)])


def expand_dims(inputs: Inputs) -> Tensor:
    """Insert axes of size 1."""
    x, axes = inputs.tensor("x"), inputs.ints("axes")
    for axis in sorted(axis % (x.dim() + len(axes)) for axis in axes):
        x = x.unsqueeze(axis)
    return x


def squeeze(inputs: Inputs) -> Tensor:
    """Remove axes of size 1, those named or all."""
    x = inputs.tensor("x")
    axes = inputs.ints("axes", [axis for axis, size in enumerate(x.shape) if size == 1])
    return x.squeeze(tuple(axes))


def concat(inputs: Inputs) -> Tensor:
    """Concatenate values along an axis; with interleave their elements alternate."""
    values, axis = inputs.tensors("values"), int(inputs.number("axis"))
    if not inputs.flag("interleave"):
        return torch.cat(values, axis)
    axis %= values[0].dim()
    return torch.stack(values, axis + 1).flatten(axis, axis + 1)


def split(inputs: Inputs) -> tuple[Value, ...]:
    """Split x along an axis into num_splits equal parts or split_sizes."""
    x, axis = inputs.tensor("x"), int(inputs.number("axis"))
    count = int(inputs.number("num_splits", inputs.results))
    sizes = inputs.ints("split_sizes", [x.shape[axis] // count] * count)
    return torch.split(x, sizes, axis)


def slice_by_index(inputs: Inputs) -> Tensor:
    """Slice x from begin to end with a stride per axis; masks take whole axes or single indices."""
    x, begin, end = inputs.tensor("x"), inputs.ints("begin"), inputs.ints("end")
    stride = inputs.ints("stride", [1] * x.dim())
    masks = [inputs.ints(name, [0] * x.dim()) for name in ("begin_mask", "end_mask", "squeeze_mask")]
    dropped = []
    slices = zip(begin, end, stride, *masks, strict=True)
    for axis, (first, last, step, from_start, to_end, single) in enumerate(slices):
        if step < 1:
            raise inputs.refusal("stride", stride, "supported: 1 and more")
        if single:
            x = x.narrow(axis, first % x.shape[axis], 1)
            dropped.append(axis)
            continue
        x = x.movedim(axis, 0)[None if from_start else first : None if to_end else last : step].movedim(0, axis)
    return x.squeeze(tuple(dropped)) if dropped else x


def slice_by_size(inputs: Inputs) -> Tensor:
    """Slice x by begin and size per axis; a size of -1 extends to the end."""
    x = inputs.tensor("x")
    for axis, (first, size) in enumerate(zip(inputs.ints("begin"), inputs.ints("size"), strict=True)):
        x = x.narrow(axis, first, x.shape[axis] - first if size == -1 else size)
    return x


def gather(inputs: Inputs) -> Tensor:
    """Take the elements of x at indices along an axis."""
    inputs.only("batch_dims", 0)
    inputs.flag("validate_indices")
    x, indices = inputs.tensor("x"), inputs.tensor("indices").long()
    axis = int(inputs.number("axis", 0)) % x.dim()
    taken = x.index_select(axis, indices.reshape(-1) % x.shape[axis])
    return taken.reshape([*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]])


def classify(inputs: Inputs) -> tuple[Value, ...]:
    """Return the most probable class and the probabilities of all classes."""
    odds, classes = inputs.tensor("probabilities"), inputs.of_type("classes", list, "a list of strings")
    return classes[int(odds.reshape(-1).argmax())], odds


def _affine(inputs: Inputs) -> tuple[Tensor | None, Tensor | None]:
    return inputs.optional("gamma"), inputs.optional("beta")


def reduce(inputs: Inputs) -> Tensor:
    """Reduce x over axes."""
    x = inputs.tensor("x")
    axes = inputs.ints("axes", range(x.dim()))
    return REDUCTIONS[inputs.kind](x, axes, inputs.flag("keep_dims"))


def matmul(inputs: Inputs) -> Tensor:
    """Matrix product of x and y, each optionally transposed."""
    x, y = inputs.tensor("x"), inputs.tensor("y")
    x = x.transpose(-1, -2) if inputs.flag("transpose_x") else x
    return x @ (y.transpose(-1, -2) if inputs.flag("transpose_y") else y)


def layer_norm(inputs: Inputs) -> Tensor:
    """Layer normalization over the last axes."""
    x = inputs.tensor("x")
    axes = inputs.ints("axes", range(x.dim()))
    if sorted(axis % x.dim() for axis in axes) != list(range(x.dim() - len(axes), x.dim())):
        raise inputs.refusal("axes", axes, "supported: the last axes")
    return F.layer_norm(x, x.shape[x.dim() - len(axes) :], *_affine(inputs), inputs.number("epsilon", 1e-5))


def einsum(inputs: Inputs) -> Tensor:
    """Einstein summation of values."""
    return torch.einsum(inputs.of_type("equation", str, "a string"), inputs.tensors("values"))


FUNCTIONS = (
    *(reshape, expand_dims, squeeze, concat, split, slice_by_index, slice_by_size, gather, classify),
    *(matmul, layer_norm, einsum),
)
OPERATORS: dict[str, Operator] = {
    **{function.__name__: function for function in FUNCTIONS},
    **dict.fromkeys(UNARY, lambda op: UNARY[op.kind](op.tensor("x"))),
    **dict.fromkeys(BINARY, lambda op: BINARY[op.kind](op.tensor("x"), op.tensor("y"))),
    **dict.fromkeys(REDUCTIONS, reduce),
    "gelu": lambda op: GELUS[op.text("mode", tuple(GELUS), "EXACT")](op.tensor("x")),
    "sigmoid_hard": lambda op: (op.number("alpha", 0.2) * op.tensor("x") + op.number("beta", 0.5)).clamp(0, 1),
    "leaky_relu": lambda op: F.leaky_relu(op.tensor("x"), op.number("alpha", 0.01)),
    "elu": lambda op: F.elu(op.tensor("x"), op.number("alpha", 1.0)),
    "prelu": lambda op: F.prelu(op.tensor("x"), op.tensor("alpha")),
    # x where x >= alpha, 0 elsewhere
    "thresholded_relu": lambda op: torch.where(op.tensor("x") >= op.number("alpha", 1.0), op.tensor("x"), 0.0),
    # min(beta, x) where x >= 0, min(beta, alpha x) elsewhere
    "clamped_relu": lambda op: F.leaky_relu(op.tensor("x"), op.number("alpha")).clamp(max=op.number("beta")),
    "clip": lambda op: op.tensor("x").clamp(op.number("alpha"), op.number("beta")),
    "rsqrt": lambda op: torch.rsqrt(op.tensor("x") + op.number("epsilon", 1e-12)),
    "inverse": lambda op: torch.reciprocal(op.tensor("x") + op.number("epsilon", 1e-4)),
    "log": lambda op: torch.log(op.tensor("x") + op.number("epsilon", 1e-45)),
    "select": lambda op: torch.where(op.tensor("cond").bool(), op.tensor("a"), op.tensor("b")),
    # float16 stays float32: the evaluator decides about rounding
    "cast": lambda op: op.tensor("x").to(CASTS[op.text("dtype", tuple(CASTS))]),
    "transpose": lambda op: op.tensor("x").permute(op.ints("perm")),
    "stack": lambda op: torch.stack(op.tensors("values"), int(op.number("axis"))),
    "tile": lambda op: op.tensor("x").tile(op.ints("reps")),
    "linear": lambda op: F.linear(op.tensor("x"), op.tensor("weight"), op.optional("bias")),
    "softmax": lambda op: op.tensor("x").softmax(int(op.number("axis", -1))),
    "batch_norm": lambda op: F.batch_norm(
        op.tensor("x"), op.tensor("mean"), op.tensor("variance"), *_affine(op), eps=op.number("epsilon", 1e-5)
    ),
    "instance_norm": lambda op: F.instance_norm(
        op.tensor("x"), None, None, *_affine(op), eps=op.number("epsilon", 1e-5)
    ),
}
