"""Operators that rearrange values without changing them."""

import torch
from torch import Tensor

from mobileone_core.coreml.operators import Inputs, Value, operator, register

register(
    {
        "transpose": lambda op: op.tensor("x").permute(op.ints("perm")),
        "stack": lambda op: torch.stack(op.tensors("values"), int(op.number("axis"))),
        "tile": lambda op: op.tensor("x").tile(op.ints("reps")),
    }
)


@operator("reshape")
def reshape(inputs: Inputs) -> Tensor:
    """Reshape x; -1 infers a size, 0 keeps the axis."""
    x, shape = inputs.tensor("x"), inputs.ints("shape")
    return x.reshape([x.shape[index] if size == 0 else size for index, size in enumerate(shape)])


@operator("expand_dims")
def expand_dims(inputs: Inputs) -> Tensor:
    """Insert axes of size 1."""
    x, axes = inputs.tensor("x"), inputs.ints("axes")
    for axis in sorted(axis % (x.dim() + len(axes)) for axis in axes):
        x = x.unsqueeze(axis)
    return x


@operator("squeeze")
def squeeze(inputs: Inputs) -> Tensor:
    """Remove axes of size 1, those named or all."""
    x = inputs.tensor("x")
    axes = inputs.ints("axes", [axis for axis, size in enumerate(x.shape) if size == 1])
    return x.squeeze(tuple(axes))


@operator("concat")
def concat(inputs: Inputs) -> Tensor:
    """Concatenate values along an axis; with interleave their elements alternate."""
    values, axis = inputs.tensors("values"), int(inputs.number("axis"))
    if not inputs.flag("interleave"):
        return torch.cat(values, axis)
    axis %= values[0].dim()
    return torch.stack(values, axis + 1).flatten(axis, axis + 1)


@operator("split")
def split(inputs: Inputs) -> tuple[Value, ...]:
    """Split x along an axis into num_splits equal parts or split_sizes."""
    x, axis = inputs.tensor("x"), int(inputs.number("axis"))
    count = int(inputs.number("num_splits", inputs.results))
    sizes = inputs.ints("split_sizes", [x.shape[axis] // count] * count)
    return torch.split(x, sizes, axis)


@operator("slice_by_index")
def slice_by_index(inputs: Inputs) -> Tensor:
    """Slice x from begin to end with a stride per axis; masks take whole axes or single indices."""
    x, begin, end = inputs.tensor("x"), inputs.ints("begin"), inputs.ints("end")
    stride = inputs.ints("stride", [1] * x.dim())
    masks = [inputs.flags(name, x.dim()) for name in ("begin_mask", "end_mask", "squeeze_mask")]
    dropped = []
    for axis, (first, last, step, from_start, to_end, single) in enumerate(
        zip(begin, end, stride, *masks, strict=True)
    ):
        if step < 1:
            raise inputs.refusal("stride", stride, "supported: 1 and more")
        if single:
            x = x.narrow(axis, first % x.shape[axis], 1)
            dropped.append(axis)
            continue
        x = x.movedim(axis, 0)[None if from_start else first : None if to_end else last : step].movedim(0, axis)
    return x.squeeze(tuple(dropped)) if dropped else x


@operator("slice_by_size")
def slice_by_size(inputs: Inputs) -> Tensor:
    """Slice x by begin and size per axis; a size of -1 extends to the end."""
    x = inputs.tensor("x")
    for axis, (first, size) in enumerate(zip(inputs.ints("begin"), inputs.ints("size"), strict=True)):
        x = x.narrow(axis, first, x.shape[axis] - first if size == -1 else size)
    return x


@operator("gather")
def gather(inputs: Inputs) -> Tensor:
    """Take the elements of x at indices along an axis."""
    inputs.only("batch_dims", 0)
    inputs.flag("validate_indices")
    x, indices = inputs.tensor("x"), inputs.tensor("indices").long()
    axis = int(inputs.number("axis", 0)) % x.dim()
    taken = x.index_select(axis, indices.reshape(-1) % x.shape[axis])
    return taken.reshape([*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]])


@operator("classify")
def classify(inputs: Inputs) -> tuple[Value, ...]:
    """Return the most probable class and the probabilities of all classes."""
    classes, odds = inputs.texts("classes"), inputs.tensor("probabilities")
    return classes[int(odds.reshape(-1).argmax())], odds
