"""Does the activation matter for accuracy? (MobileOne, section 3.1; its latency is table 2)

    python studies/activation.py                                       # tiny on digits, minutes on two cores
    python studies/activation.py --activation relu gelu silu --variant s0 --data cifar10 --data-root ~/data

The paper compares activations by latency alone and keeps ReLU. Dynamic ReLU and Dynamic Shift-Max add layers of
their own after every convolution, and so parameters: accuracy is drawn over cost. The digits recipe clips gradients at
norm 1, since the dynamic activations diverge on some seeds without it (--clip-norm 0).
"""

from mobileone_core.study import Factor, Study

STUDY = Study(
    name="activation",
    question="Does the activation matter for accuracy?",
    factors=(
        Factor(
            "activation",
            "model.activation",
            levels=("relu", "gelu", "silu", "hardswish", "dynamic_relu_a", "dynamic_relu_b", "dynamic_shift_max"),
            baseline="relu",
        ),
    ),
    reference="section 3.1",
    figure="cost",
)

if __name__ == "__main__":
    from mobileone_core.cli import main

    main(STUDY)
