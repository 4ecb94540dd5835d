"""A tiny cell on a GPU: every precision and memory format learns, and float32 gives the same numbers twice."""

import pytest
import torch
from safetensors.torch import load_file

from mobileone_core.training.execution import Execution

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.filterwarnings("ignore:ema_decay"),
]
layouts = pytest.mark.parametrize("channels_last", [False, True], ids=["contiguous", "channels last"])


@layouts
@pytest.mark.parametrize("precision", ["32", "16-mixed", "bf16-mixed"])
def test_a_cell_learns(train, memory, precision, channels_last):
    execution, observer = Execution("cuda", channels_last=channels_last), memory()
    result = train(observer=observer, execution=execution, precision=precision, epochs=3)
    losses = [record.metrics["train/loss"] for record in observer.records]
    assert losses[-1] < losses[0]
    weights = load_file(result.weights).values()
    assert {value.dtype for value in weights} == {torch.float32, torch.int64}
    assert all(value.isfinite().all() for value in weights)


@layouts
def test_float32_gives_the_same_numbers_twice(train, channels_last):
    """With the deterministic kernels that training asks for."""
    execution = Execution("cuda", channels_last=channels_last)
    first, second = (train(name, execution=execution) for name in ("first", "second"))
    timeless = [name for name in first.metrics if not name.startswith("time/")]
    assert [first.metrics[name] for name in timeless] == [second.metrics[name] for name in timeless]
    kept, again = load_file(first.weights), load_file(second.weights)
    assert all(torch.equal(kept[name], again[name]) for name in kept)
