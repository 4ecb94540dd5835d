"""Element-wise operators: activations, arithmetic, casts."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from mobileone_core.coreml.operators import register

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


register(
    dict.fromkeys(UNARY, lambda op: UNARY[op.kind](op.tensor("x")))
    | dict.fromkeys(BINARY, lambda op: BINARY[op.kind](op.tensor("x"), op.tensor("y")))
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
