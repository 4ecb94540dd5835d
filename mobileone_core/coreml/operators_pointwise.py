"""Element-wise operators: activations, arithmetic, casts."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from mobileone_core.coreml.operators import Inputs, register

UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "abs": torch.abs,
    "ceil": torch.ceil,
    "cos": torch.cos,
    "erf": torch.erf,
    "exp": torch.exp,
    "floor": torch.floor,
    "identity": lambda x: x,
    "logical_not": torch.logical_not,
    "relu": torch.relu,
    "relu6": F.relu6,
    "sigmoid": torch.sigmoid,
    "sign": torch.sign,
    "silu": F.silu,
    "sin": torch.sin,
    "softplus": F.softplus,
    "softsign": F.softsign,
    "sqrt": torch.sqrt,
    "square": torch.square,
    "tanh": torch.tanh,
}
BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add,
    "equal": torch.eq,
    "floor_div": torch.floor_divide,
    "greater": torch.gt,
    "greater_equal": torch.ge,
    "less": torch.lt,
    "less_equal": torch.le,
    "logical_and": torch.logical_and,
    "logical_or": torch.logical_or,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "mod": torch.remainder,
    "mul": torch.mul,
    "not_equal": torch.ne,
    "pow": torch.pow,
    "real_div": torch.div,
    "sub": torch.sub,
}
CASTS = {"fp16": torch.float32, "fp32": torch.float32, "int32": torch.int32, "bool": torch.bool}
GELUS: dict[str, Callable[[Tensor], Tensor]] = {
    "EXACT": F.gelu,
    "TANH_APPROXIMATION": lambda x: F.gelu(x, approximate="tanh"),
    "SIGMOID_APPROXIMATION": lambda x: x * torch.sigmoid(1.702 * x),
}


def _unary(inputs: Inputs) -> Tensor:
    return UNARY[inputs.kind](inputs.tensor("x"))


def _binary(inputs: Inputs) -> Tensor:
    return BINARY[inputs.kind](inputs.tensor("x"), inputs.tensor("y"))


register(
    dict.fromkeys(UNARY, _unary)
    | dict.fromkeys(BINARY, _binary)
    | {
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
    }
)
