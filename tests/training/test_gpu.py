"""A tiny cell on a GPU: every precision and memory format learns, and float32 gives the same numbers twice."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from mobileone_core.model.network import build_model
from mobileone_core.training.cell import teacher_model
from mobileone_core.training.execution import Execution
from mobileone_core.training.recipe import Teacher

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
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
@pytest.mark.parametrize("precision", ["32", "16-mixed", "bf16-mixed"])
@pytest.mark.parametrize("augmentation", ["crop", "none"])
def test_a_student_learns(  # noqa: PLR0917
    train, memory, cell, tmp_path, precision, channels_last, augmentation
):
    """A student learns from a teacher that runs in every step, or once."""
    teacher, observer = Teacher("tiny"), memory()
    path = tmp_path / "teacher.safetensors"
    save_file(build_model(teacher_model(cell, teacher), 10).state_dict(), path)
    result = train(
        observer=observer,
        execution=Execution("cuda", channels_last=channels_last),
        files={teacher: path},
        **{"precision": precision, "augmentation": augmentation, "epochs": 3, "teachers": (teacher,)},
    )
    losses = [record.metrics["train/loss"] for record in observer.records]
    assert losses[-1] < losses[0]
    assert result.metrics["test/form_difference_relative"] < 0.1


@layouts
def test_float32_gives_the_same_numbers_twice(train, channels_last):
    """Deterministic kernels, which training sets, give equal numbers."""
    execution = Execution("cuda", channels_last=channels_last)
    first, second = (train(name, execution=execution) for name in ("first", "second"))
    timeless = [name for name in first.metrics if not name.startswith("time/")]
    assert [first.metrics[name] for name in timeless] == [second.metrics[name] for name in timeless]
    kept, again = load_file(first.weights), load_file(second.weights)
    assert all(torch.equal(kept[name], again[name]) for name in kept)
