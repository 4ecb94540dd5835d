"""Do multiply-adds and parameters predict latency? (MobileOne, figures 2 and 3, table 1)

    python studies/metric_correlation.py                                     # the networks of table 9, ONNX Runtime
    python studies/metric_correlation.py --runtime torch openvino
    python studies/metric_correlation.py --networks table9 peers timm:levit_128s --rounds 40

Times S0 to S4 and the networks of table 9 that torchvision and timm provide, interleaved, at 224 px, batch 1, on one
thread. Shows Spearman's correlation of latency with both counts, next to table 1 as printed and as recomputed from
table 9. No library has MobileNeXt and Mobile-Former: they stay gaps. Nothing is trained; three minutes on two cores.
Expect the conclusion to depend on which networks are included.
"""

from mobileone_core.study import TABLE_9, Factor, LatencyCell, MeasuredStudy

STUDY = MeasuredStudy(
    name="metric_correlation",
    question="Do multiply-adds and parameters tell latency?",
    factors=(
        Factor("model", "network.model", levels=TABLE_9, baseline="mobileone_s0"),
        Factor("runtime", "runtime.name", levels=("onnxruntime",), baseline="onnxruntime"),
    ),
    reference="figures 2 and 3, table 1",
    published="table9_imagenet",
    base=LatencyCell(),
    against=("model",),
    view="correlation",
)

if __name__ == "__main__":
    from mobileone_core.cli import main

    main(STUDY)
