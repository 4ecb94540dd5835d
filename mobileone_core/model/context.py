"""Widths of the small networks that read the pooled input (SE, dynamic activations): no torch here."""

from typing import Final

Widths = tuple[int, int, int]  # channels in, hidden, out

SE_REDUCTION: Final = 16
DYNAMIC_REDUCTION: Final = 8  # R: Dynamic ReLU's own choice, and that of MicroNet's released settings
PIECES: Final = 2  # K, the pieces of both; also J, the channels that Shift-Max fuses


def squeeze_excite_widths(channels: int) -> Widths:
    """The released code's int(channels / 16), and at least 1."""
    return channels, max(1, channels // SE_REDUCTION), channels


def activation_widths(activation: str, channels: int) -> Widths | None:
    """The activation's own network, or None where it has no parameters."""
    outputs = {
        "dynamic_relu_a": 2 * PIECES,
        "dynamic_relu_b": 2 * PIECES * channels,
        "dynamic_shift_max": PIECES * PIECES * channels,
    }
    if activation not in outputs:
        return None
    return channels, max(1, channels // DYNAMIC_REDUCTION), outputs[activation]
