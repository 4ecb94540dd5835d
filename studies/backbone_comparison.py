"""Which backbone gives most accuracy for its latency? (MobileOne, figures 1 and 11, table 9)

    python studies/backbone_comparison.py                                    # the networks of table 9, ONNX Runtime
    python studies/backbone_comparison.py --runtime onnxruntime openvino --threads 2
    python studies/backbone_comparison.py --networks peers timm:levit_128s torchvision:squeezenet1_1 --batch-size 8
    mobileone evaluate --variant s0 --weights FILE --data imagenet --data-root DIR    # accuracy of your weights

Shows table 9's published accuracy and latency next to latency measured here per runtime, accuracy that
`mobileone evaluate` recorded, and iPhone latencies as published, imported or not measured. The figure draws accuracy
over latency with its Pareto front. Nothing is trained; three minutes on two cores. Expect S0 to S4 on both fronts, with
MobileNetV3 and EfficientNet-B0 between them on a CPU.
"""

from mobileone_core.study import TABLE_9, Factor, LatencyCell, MeasuredStudy

STUDY = MeasuredStudy(
    name="backbone_comparison",
    question="Which backbone gives most accuracy for its latency?",
    factors=(
        Factor("model", "network.model", levels=TABLE_9, baseline="mobileone_s0"),
        Factor("runtime", "runtime.name", levels=("onnxruntime",), baseline="onnxruntime"),
    ),
    reference="figures 1 and 11, table 9",
    published="table9_imagenet",
    base=LatencyCell(),
    against=("model",),
    view="backbones",
)

if __name__ == "__main__":
    from mobileone_core.cli import main

    main(STUDY)
