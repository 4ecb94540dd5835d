"""Element-wise operators: activations, arithmetic, casts."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from mobileone_core.coreml.operators import Inputs, operator

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


@operator(*UNARY)
def unary(inputs: Inputs) -> Tensor:
    """Apply an element-wise function of x."""
    return UNARY[inputs.kind](inputs.tensor("x"))


@operator(*BINARY)
def binary(inputs: Inputs) -> Tensor:
    """Apply an element-wise function of x and y."""
    return BINARY[inputs.kind](inputs.tensor("x"), inputs.tensor("y"))


@operator("gelu")
def gelu(inputs: Inputs) -> Tensor:
    """GELU of x, exact or approximated as mode says."""
    return GELUS[inputs.text("mode", tuple(GELUS), "EXACT")](inputs.tensor("x"))


@operator("sigmoid_hard")
def sigmoid_hard(inputs: Inputs) -> Tensor:
    """clip(alpha x + beta, 0, 1)."""
    return (inputs.number("alpha", 0.2) * inputs.tensor("x") + inputs.number("beta", 0.5)).clamp(0, 1)


@operator("leaky_relu")
def leaky_relu(inputs: Inputs) -> Tensor:
    """x where x >= 0, alpha x elsewhere."""
    return F.leaky_relu(inputs.tensor("x"), inputs.number("alpha", 0.01))


@operator("elu")
def elu(inputs: Inputs) -> Tensor:
    """x where x >= 0, alpha (exp(x) - 1) elsewhere."""
    return F.elu(inputs.tensor("x"), inputs.number("alpha", 1.0))


@operator("prelu")
def prelu(inputs: Inputs) -> Tensor:
    """x where x >= 0, alpha x elsewhere, with one alpha per channel."""
    return F.prelu(inputs.tensor("x"), inputs.tensor("alpha"))


@operator("thresholded_relu")
def thresholded_relu(inputs: Inputs) -> Tensor:
    """x where x >= alpha, 0 elsewhere."""
    x = inputs.tensor("x")
    return torch.where(x >= inputs.number("alpha", 1.0), x, 0.0)


@operator("clamped_relu")
def clamped_relu(inputs: Inputs) -> Tensor:
    """min(beta, x) where x >= 0, min(beta, alpha x) elsewhere."""
    return F.leaky_relu(inputs.tensor("x"), inputs.number("alpha")).clamp(max=inputs.number("beta"))


@operator("clip")
def clip(inputs: Inputs) -> Tensor:
    """x clipped to [alpha, beta]."""
    return inputs.tensor("x").clamp(inputs.number("alpha"), inputs.number("beta"))


@operator("rsqrt")
def rsqrt(inputs: Inputs) -> Tensor:
    """1 / sqrt(x + epsilon)."""
    return torch.rsqrt(inputs.tensor("x") + inputs.number("epsilon", 1e-12))


@operator("inverse")
def inverse(inputs: Inputs) -> Tensor:
    """1 / (x + epsilon)."""
    return torch.reciprocal(inputs.tensor("x") + inputs.number("epsilon", 1e-4))


@operator("log")
def log(inputs: Inputs) -> Tensor:
    """Natural logarithm of x + epsilon."""
    return torch.log(inputs.tensor("x") + inputs.number("epsilon", 1e-45))


@operator("select")
def select(inputs: Inputs) -> Tensor:
    """a where cond holds, b elsewhere."""
    return torch.where(inputs.tensor("cond").bool(), inputs.tensor("a"), inputs.tensor("b"))


@operator("cast")
def cast(inputs: Inputs) -> Tensor:
    """Convert x to another type; float16 stays float32, since the evaluator decides about rounding."""
    return inputs.tensor("x").to(CASTS[inputs.text("dtype", tuple(CASTS))])
