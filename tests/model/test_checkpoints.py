import os
import pickle

import pytest
import torch
from safetensors.torch import save_file

from mobileone_core.model.network import build_model
from mobileone_core.model.weights import load_weights

LOOKED_FOR = (
    "no weights of such a network; looked for stem.* (this package, timm) or stage0.* (the authors, mmpretrain) "
    "under any prefix"
)


def wrapped(state):
    return {"epoch": 3, "state_dict": {f"model.{key}": value for key, value in state.items()}}


WRAPPINGS = {
    "bare": lambda state: state,
    "state_dict": wrapped,
    "model": lambda state: {"model": state, "optimizer": {"lr": 0.1}},
    "module": lambda state: {f"module.{key}": value for key, value in state.items()},
    "compiled": lambda state: {"model": {f"module._orig_mod.{key}": value for key, value in state.items()}},
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.ckpt", "w.pth.tar"])
def test_files_of_torch_with_common_wrappers(model, tmp_path, wrapping, name, same):
    torch.save(WRAPPINGS[wrapping](model.state_dict()), tmp_path / name)
    target = build_model(model.spec, 10)
    load_weights(target, tmp_path / name)
    assert same(target, model)


def test_safetensors_by_path_or_text(model, tmp_path, tiny, same):
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    target = build_model(tiny(), 10)
    load_weights(target, str(tmp_path / "w.safetensors"))
    assert same(target, model)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
@pytest.mark.parametrize(
    "changed", [torch.Tensor.to_sparse, lambda value: torch.quantize_per_tensor(value, 0.1, 0, torch.qint8)]
)
def test_a_tensor_that_is_not_dense_is_refused_before_anything_is_loaded(changed, model, refused):
    state = model.state_dict() | {"head.fc.bias": changed(torch.ones(10))}
    assert refused(state) == "the state dict: entry 'head.fc.bias' is a Tensor, not a dense tensor with a name"


def test_a_file_of_another_width_is_named(tmp_path, tiny, refused):
    torch.save(build_model("tiny", 10).state_dict(), tmp_path / "other.pt")
    message = refused(tmp_path / "other.pt", build_model(tiny(widths=(16, 32, 64, 96)), 10))
    assert message.startswith(f"{tmp_path / 'other.pt'} does not fit the model: ")


class Malicious:
    """A hostile checkpoint: unpickling it makes a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("protocol", ["torch", "pickle"])
def test_code_in_a_file_is_not_executed(tmp_path, protocol, refused):
    trace, path = tmp_path / "executed", tmp_path / "hostile.pt"
    content = {"state_dict": {"head.fc.weight": Malicious(trace)}}
    if protocol == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    assert refused(path).startswith(f"{path}: not a readable weight file; it is broken, or contains more than weights")
    assert not trace.exists()
    if protocol == "pickle":
        pickle.loads(path.read_bytes())  # the file would have done it
        assert trace.exists()


@pytest.mark.parametrize("content", [b"", b"not weights", b"PK\x03\x04 cut off", b"\x80\x02"])
@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
def test_broken_files_are_named(tmp_path, name, content, refused):
    (tmp_path / name).write_bytes(content)
    assert refused(tmp_path / name).startswith(f"{tmp_path / name}: not a readable weight file")


def test_a_truncated_file_is_named(model, tmp_path, refused):
    path = tmp_path / "w.pt"
    torch.save(model.state_dict(), path)
    path.write_bytes(path.read_bytes()[:-1000])
    assert refused(path).startswith(f"{path}: not a readable weight file")


@pytest.mark.filterwarnings("error", "ignore:.torch.jit:FutureWarning")
def test_a_torchscript_archive_is_named_without_a_warning(tmp_path, refused):
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), tmp_path / "w.pt")
    assert refused(tmp_path / "w.pt").endswith("or contains more than weights (TorchScript archive)")


def test_what_is_no_source_is_named(model, refused):
    for source in (model, None, b"w.pt"):
        assert refused(source).startswith(f"source: '{type(source).__name__}' is not allowed; a path or a state dict")


def test_missing_files_and_folders_are_named(tmp_path, refused):
    assert refused(tmp_path / "none.pt") == f"{tmp_path / 'none.pt'}: no such file"
    assert refused(tmp_path) == f"{tmp_path}: no such file"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "it contains a list, not a state dict"),
        (torch.zeros(3), "it contains a Tensor, not a state dict"),
        ({"epoch": 3}, f"{LOOKED_FOR}; it holds epoch"),
        ({7: torch.zeros(1)}, f"{LOOKED_FOR}; it holds 7"),
        (
            {f"layer{n}.weight": torch.zeros(1) for n in range(8)},
            f"{LOOKED_FOR}; it holds layer0.weight, layer1.weight, ",
        ),
        ({}, f"{LOOKED_FOR}; it holds nothing"),
    ],
)
def test_files_without_a_state_dict(tmp_path, content, message, refused):
    torch.save(content, tmp_path / "w.pt")
    assert refused(tmp_path / "w.pt").startswith(f"{tmp_path / 'w.pt'}: {message}")
