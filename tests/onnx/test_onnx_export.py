from collections import Counter

import onnx
import onnxruntime
import pytest
import torch

from mobileone_core.model.network import build_model, calibrate
from mobileone_core.model.reparam import reparameterize
from mobileone_core.onnx.export import export_onnx

pytestmark = pytest.mark.usefixtures("onnx_registry")


@pytest.mark.slow
def test_the_file_holds_the_network_and_nothing_is_said(tmp_path, capfd):
    torch.manual_seed(0)
    network = build_model("tiny", 10)
    calibrate(network, [torch.randn(8, 3, 32, 32)])
    deployed, images = reparameterize(network), torch.randn(2, 3, 32, 32)
    export_onnx(deployed, images, tmp_path / "tiny.onnx")
    assert capfd.readouterr() == ("", "")
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.onnx"]
    onnx.checker.check_model(str(tmp_path / "tiny.onnx"), full_check=True)
    nodes = Counter(node.op_type for node in onnx.load(tmp_path / "tiny.onnx").graph.node)
    assert nodes == {"Conv": 11, "Relu": 11, "ReduceMean": 1, "Reshape": 1, "Gemm": 1}
    session = onnxruntime.InferenceSession(tmp_path / "tiny.onnx", providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"images": images.numpy()})
    with torch.inference_mode():
        torch.testing.assert_close(torch.from_numpy(logits), deployed(images), rtol=1e-4, atol=1e-5)
