"""Soft labels against scipy in float64, and teachers from every place they may come from."""

import copy
import sys
from dataclasses import replace

import numpy as np
import pytest
import scipy.special
import timm
import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from mobileone_core.data.loaders import LoaderOptions, open_loaders
from mobileone_core.errors import InputError
from mobileone_core.model.network import build_model
from mobileone_core.model.reparam import reparameterize
from mobileone_core.training.cell import teacher_cell, teacher_model
from mobileone_core.training.distillation import Teachers, divergence, load_teachers
from mobileone_core.training.module import CellModule
from mobileone_core.training.recipe import Phase, Teacher, weights_digest
from mobileone_core.training.tasks.task import build_task

LOGITS = torch.randn(7, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3


class Says(nn.Module):
    """A network that says the same whatever it sees."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, _images):
        return self.logits


@pytest.fixture
def taught(cell):
    """A cell with teachers, at 32 px."""

    def with_teachers(*teachers, **changes):
        data = replace(cell.data, image_size=32, **changes)
        return replace(cell, data=data, recipe=replace(cell.recipe, teachers=teachers))

    return with_teachers


@pytest.mark.parametrize("temperature", [1.0, 4.0, 0.5])
def test_divergence_equals_scipys(temperature):
    given = LOGITS.flip(0)
    target, student = (scipy.special.softmax(x.numpy() / temperature, axis=1) for x in (given, LOGITS))
    expected = temperature**2 * scipy.special.rel_entr(target, student).sum(1)
    computed = divergence(LOGITS, torch.from_numpy(target), temperature)
    np.testing.assert_allclose(computed.numpy(), expected, rtol=1e-12, atol=1e-14)
    assert divergence(given, torch.from_numpy(target), temperature).abs().max() < 1e-13


def test_divergence_where_a_teacher_is_certain():
    certain = torch.eye(10, dtype=torch.float64)[:7]
    expected = scipy.special.rel_entr(certain.numpy(), scipy.special.softmax(LOGITS.numpy(), axis=1)).sum(1)
    np.testing.assert_allclose(divergence(LOGITS, certain, 1.0).numpy(), expected, rtol=1e-12)


def test_half_precision_is_compared_in_float32():
    half = LOGITS.bfloat16()
    probabilities = Teachers([Says(half)], 2.0)(torch.empty(0))
    assert probabilities.dtype == divergence(half, probabilities, 2.0).dtype == torch.float32
    torch.testing.assert_close(probabilities, (half.float() / 2).softmax(1))


def test_several_teachers_are_averaged_as_probabilities():
    others = [LOGITS, LOGITS.roll(1, 0), LOGITS.roll(2, 1)]
    computed = Teachers([Says(logits) for logits in others], 3.0)(torch.empty(0))
    expected = np.mean([scipy.special.softmax(logits.numpy() / 3, axis=1) for logits in others], axis=0)
    np.testing.assert_allclose(computed.numpy(), expected, rtol=1e-12)


def test_teachers_only_evaluate_and_stay_out_of_the_student(cell):
    teacher = build_model(teacher_model(cell, Teacher("tiny")), 10).train()
    before = copy.deepcopy(teacher.state_dict())
    teachers = Teachers([teacher], 4.0)
    module, plain = (
        CellModule(build_task(cell), build_model(cell.model, 10), torch.contiguous_format, given)
        for given in (teachers, None)
    )
    assert [name for name, _ in module.named_parameters()] == [name for name, _ in plain.named_parameters()]
    assert module.state_dict().keys() == plain.state_dict().keys()
    assert not teachers(torch.randn(8, 1, 16, 16)).requires_grad
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


@pytest.mark.slow
def test_a_trained_teacher_teaches(train, cell, tmp_path):
    """The prerequisite cell first; its weights, in train form, are the teacher's; the checkpoint holds none of them.
    The test's loss is the plain one."""
    teacher = Teacher("tiny")
    student = replace(cell, recipe=replace(cell.recipe, teachers=(teacher,)))
    first = train("teacher", spec=teacher_cell(student, teacher), epochs=1)
    result = train("student", spec=student, files={teacher: first.weights})
    alone = train("alone", spec=cell)
    state, plain = (
        torch.load(tmp_path / name / "last.ckpt", weights_only=True)["state_dict"] for name in ("student", "alone")
    )
    assert state.keys() == plain.keys()
    assert load_file(result.weights).keys() == load_file(alone.weights).keys()
    assert result.metrics["train/loss"] != alone.metrics["train/loss"]
    assert result.metrics.keys() == alone.metrics.keys()
    network = build_model(cell.model, 10).eval()
    network.load_state_dict(load_file(result.weights))
    loader = open_loaders(cell.data, None, cell.seed, LoaderOptions(256, "none")).test
    losses = [F.cross_entropy(network(x), y, label_smoothing=0.1, reduction="none") for x, y in loader]
    assert result.metrics["test/loss"] == pytest.approx(torch.cat(losses).mean().item(), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("phases", "images"), [((), [1210, 0]), ((Phase(0.5, 12, 0.0), Phase(1.0, 16, 0.0)), [1024, 1024])]
)
def test_teachers_are_asked_once_where_images_never_change(  # noqa: PLR0917
    train, cell, tmp_path, monkeypatch, phases, images
):
    seen = []
    call = Teachers.__call__
    monkeypatch.setattr(Teachers, "__call__", lambda self, batch: seen.append(len(batch)) or call(self, batch))
    teacher = Teacher("tiny")
    path = tmp_path / "teacher.safetensors"
    save_file(build_model(teacher_model(cell, teacher), 10).state_dict(), path)
    for epochs, expected in ((1, images[0]), (2, sum(images))):
        seen.clear()
        options = {"epochs": epochs, "augmentation": "none", "phases": phases, "files": {teacher: path}}
        student = replace(cell, recipe=replace(cell.recipe, teachers=(teacher,)))
        train(f"{epochs} epochs", spec=student, **options)
        assert sum(seen) == expected


@pytest.mark.parametrize("form", ["train", "deployed"])
def test_a_checkpoint_of_ours_runs_in_deployed_form(taught, tmp_path, form):
    torch.manual_seed(0)
    network = build_model(teacher_model(taught(), Teacher("small")), 10)
    for _ in range(3):
        network(torch.randn(16, 1, 32, 32))
    kept = network.eval() if form == "train" else reparameterize(network.eval())
    path = tmp_path / "weights.safetensors"
    save_file(kept.state_dict(), path)
    teacher = Teacher("small", weights_digest(path))
    teachers = load_teachers(taught(teacher), {teacher: path})
    assert not any(isinstance(module, nn.BatchNorm2d) for module in teachers.networks[0].modules())
    images = torch.randn(4, 1, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(teachers(images), (network(images) / 4).softmax(1), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("network", "build", "channels"),
    [
        ("timm:resnet10t", lambda: timm.create_model("resnet10t", num_classes=10, in_chans=1), 1),
        ("torchvision:shufflenet_v2_x0_5", lambda: torchvision.models.shufflenet_v2_x0_5(num_classes=10), 3),
        ("torchvision:resnet18", lambda: torchvision.models.resnet18(num_classes=10), 3),
    ],
)
def test_networks_of_other_libraries(taught, tmp_path, network, build, channels):
    torch.manual_seed(0)
    theirs = build().eval()
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": theirs.state_dict()}, path)
    teacher = Teacher(network, weights_digest(path))
    teachers = load_teachers(taught(teacher, channels=channels), {teacher: path})
    images = torch.randn(4, channels, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(teachers(images), (theirs(images) / 4).softmax(1))


def test_without_teachers_there_are_none(cell):
    assert load_teachers(cell, {}) is None


@pytest.fixture
def refusal(taught, tmp_path):
    """The message with which a teacher and a file of tensors are refused."""

    def message(network, state, content=None, **changes):
        path = tmp_path / "weights.pth"
        torch.save(state, path)
        teacher = Teacher(network, weights_digest(path))
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(InputError) as caught:
            load_teachers(taught(teacher, **changes), {teacher: path})
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return message


def test_a_file_that_is_missing_is_asked_for(train, taught, tmp_path):
    for files in ({}, {Teacher("tiny"): tmp_path / "none.safetensors"}):
        with pytest.raises(InputError, match=r"^teachers: 'tiny' is not allowed; it needs a file of weights"):
            train(spec=taught(Teacher("tiny")), files=files)


def test_another_file_is_refused(refusal):
    assert "is another file: its SHA-256 begins with e3b0c44298fc1c14" in refusal("tiny", {}, content=b"")


def test_a_file_of_other_classes_or_channels_is_refused(refusal):
    state = build_model("tiny", 20).state_dict()
    message = refusal("tiny", state)
    assert message.startswith("teachers: tiny: ")
    assert "of another shape: stem.conv_kxk.0.conv.weight (given (16, 3, 3, 3), the model's (16, 1, 3, 3))" in message
    state = timm.create_model("resnet10t", num_classes=20, in_chans=1).state_dict()
    message = refusal("timm:resnet10t", state)
    assert "does not fit timm:resnet10t with 10 classes, 1 channel: " in message


def test_a_network_that_cannot_read_the_images_is_refused(refusal):
    state = torchvision.models.shufflenet_v2_x0_5(num_classes=10).state_dict()
    message = refusal("torchvision:shufflenet_v2_x0_5", state)
    assert "cannot read images of 1 x 32 x 32: " in message


def test_a_network_without_logits_is_refused(refusal):
    state = timm.create_model("resnet10t", num_classes=10, in_chans=1).state_dict()
    state["fc.bias"][3] = torch.nan
    assert "are no finite logits of 10 classes" in refusal("timm:resnet10t", state)


@pytest.mark.parametrize(
    "network", ["timm:no", "timm:hf-hub:timm/resnet18", "torchvision:no", "torchvision:lraspp_mobilenet_v3_large"]
)
def test_an_unknown_network_is_named_and_nothing_is_downloaded(refusal, network):
    library = network.partition(":")[0]
    assert refusal(network, {}).startswith(f"teachers: {network!r} is not allowed; a network that {library} lists")


def test_a_missing_package_is_named_with_its_cure(refusal, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    assert refusal("timm:resnet10t", {}) == "teachers: timm:resnet10t needs timm: pip install timm"
