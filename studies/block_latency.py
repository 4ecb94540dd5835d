"""What do squeeze-and-excite blocks and skip connections cost in latency? (MobileOne, table 3)

    python studies/block_latency.py                               # ONNX Runtime and torch, one thread
    python studies/block_latency.py --runtime openvino --width 64

Times the 30-layer network of activation_latency.py with SE, with skip connections, and with both around every
convolution, interleaved in one process. The paper's numbers could not be sourced, only its finding: both raise latency,
SE through its synchronization point, skips through memory traffic. Nothing is trained; a minute on two cores.
"""

from mobileone_core.study import Chain, Factor, LatencyCell, MeasuredStudy

STUDY = MeasuredStudy(
    name="block_latency",
    question="What do squeeze-and-excite blocks and skip connections cost in latency?",
    factors=(
        Factor("block", "network.block", levels=("baseline", "se", "skip", "se_skip"), baseline="baseline"),
        Factor("runtime", "runtime.name", levels=("onnxruntime", "torch"), baseline="onnxruntime"),
    ),
    reference="table 3",
    base=LatencyCell(Chain()),
    against=("block",),
)

if __name__ == "__main__":
    from mobileone_core.cli import main

    main(STUDY)
