"""What does folding the branches away save in latency? (MobileOne, section 3.3 and figure 3)

    python studies/reparam_latency.py                                      # S0 to S4, ONNX Runtime and torch
    python studies/reparam_latency.py --model mobileone_s0 --form deployed train-k1 train-k8
    python studies/reparam_latency.py --runtime openvino torch_compile

Times every variant in deployed form and in train form, with its own k or another, at 224 px and batch 1. A runtime that
folds batch normalization narrows the gap, so every number names its runtime. Nothing is trained; three minutes on two
cores. Expect S0's train form (k = 4) at about four times the deployed form in ONNX Runtime, more in torch.
"""

from mobileone_core.study import Factor, LatencyCell, MeasuredStudy

STUDY = MeasuredStudy(
    name="reparam_latency",
    question="What does folding the branches away save in latency?",
    factors=(
        Factor(
            "model",
            "network.model",
            levels=("mobileone_s0", "mobileone_s1", "mobileone_s2", "mobileone_s3", "mobileone_s4"),
            baseline="mobileone_s0",
        ),
        Factor(
            "form",
            levels=("deployed", "train"),
            baseline="deployed",
            settings={
                "deployed": {"network.form": "deployed"},
                "train": {"network.form": "train"},
                **{f"train-k{k}": {"network.form": "train", "network.k": k} for k in (1, 2, 4, 8, 16)},
            },
        ),
        Factor("runtime", "runtime.name", levels=("onnxruntime", "torch"), baseline="onnxruntime"),
    ),
    reference="section 3.3",
    base=LatencyCell(),
    against=("form",),
)

if __name__ == "__main__":
    from mobileone_core.cli import main

    main(STUDY)
