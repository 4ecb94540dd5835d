"""What does the activation cost in latency? (MobileOne, table 2)

    python studies/activation_latency.py                                         # ONNX Runtime and torch, one thread
    python studies/activation_latency.py --runtime openvino --rounds 40
    python studies/activation_latency.py --activation relu dynamic_relu_a --width 64 --threads 2

Times a 30-layer convolutional network with each activation, interleaved in one process. The paper does not publish its
widths, kernel size and resolution: ours are the defaults of the options. Dynamic ReLU appears twice, as maps of rank 4
and (_rank5) in the usual, transposed form, which is many times slower. Nothing is trained; two minutes on two cores.
"""

from mobileone_core.study import Chain, Factor, LatencyCell, MeasuredStudy

STUDY = MeasuredStudy(
    name="activation_latency",
    question="What does the activation cost in latency?",
    factors=(
        Factor(
            "activation",
            "network.activation",
            levels=(
                "relu",
                "gelu",
                "silu",
                "hardswish",
                "se_relu",
                "dynamic_shift_max",
                "dynamic_relu_a",
                "dynamic_relu_b",
                "dynamic_relu_a_rank5",
                "dynamic_relu_b_rank5",
            ),
            baseline="relu",
        ),
        Factor("runtime", "runtime.name", levels=("onnxruntime", "torch"), baseline="onnxruntime"),
    ),
    reference="table 2",
    published="table2_activation_latency_ms",
    base=LatencyCell(Chain()),
    against=("activation",),
)

if __name__ == "__main__":
    from mobileone_core.cli import main

    main(STUDY)
