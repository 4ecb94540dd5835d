"""Does folding hurt int8? (not in MobileOne; QARepVGG, AAAI 2024, found that it hurts RepVGG)

    python studies/quantization.py                                     # tiny on digits, minutes on two cores
    python studies/quantization.py --branches none 1 2 4 8 --int8 float32 tensor channel
    python studies/quantization.py --data fashion_mnist --data-root ~/data

Trains networks without branches and with k = 1 and 4, folds them, and quantizes each after training with ONNX Runtime:
weights int8, activations uint8, ranges measured on 128 training images (--int8 tensor16 takes 16). Replicates are the
seeds of training: the report pairs every int8 network with its own float32 network. Branches of different ranges fold
into one kernel, so a tensor's largest channel may leave few steps for the others; a scale per channel or cross-layer
equalization (Nagel et al., ICCV 2019) would mend that. On Fashion-MNIST one of five networks with k = 4 falls to
guessing with a scale per tensor, and is held by either cure; on digits one of five loses 21 points. Last, latencies
of all networks are measured in ONNX Runtime, interleaved with a second copy of the first.
"""

from mobileone_core.study import Factor, Study

FULL = {"quantization.scheme": "full"}

STUDY = Study(
    name="quantization",
    question="Does folding hurt int8?",
    factors=(
        Factor(
            "branches",
            levels=("none", "1", "4"),
            settings={"none": {"model.reparam": False}, **{str(k): {"model.k": k} for k in (1, 2, 4, 8)}},
            baseline="none",
        ),
        Factor(
            "int8",
            levels=("float32", "tensor", "channel", "percentile", "weights", "equalized"),
            settings={
                "float32": {"quantization.scheme": "none"},
                "tensor": FULL,
                "tensor16": {**FULL, "quantization.images": 16},
                "channel": {**FULL, "quantization.granularity": "channel"},
                "percentile": {**FULL, "quantization.calibration": "percentile"},
                "entropy": {**FULL, "quantization.calibration": "entropy"},
                "weights": {"quantization.scheme": "weights"},
                "equalized": {**FULL, "quantization.equalize": True},
            },
            baseline="float32",
        ),
    ),
    seeds=5,
    compares="latency",
)

if __name__ == "__main__":
    from mobileone_core.cli import main

    main(STUDY)
