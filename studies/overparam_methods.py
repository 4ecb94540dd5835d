"""Which way of over-parameterizing trains the best network, and what does it cost? (MobileOne, table 4)

    python studies/overparam_methods.py                                      # tiny on digits, minutes on two cores
    python studies/overparam_methods.py --method none mobileone dbb --seeds 10
    python studies/overparam_methods.py --data fashion_mnist --data-root ~/data
    python studies/overparam_methods.py --variant s0 --data imagenet --data-root /data/imagenet --device cuda

Every block of one MobileOne network trains with the branches of MobileOne (k = 4), RepVGG, ACNet, DBB or ExpandNet
(four times as wide), or as it is (none); deployed, all are the same network. Table 4 compares networks of different
kinds and sizes instead, one number each. The last cell measures the time and memory of a training step of all levels,
interleaved. DBB has norms between its convolutions and trains branch by branch, the others as one convolution per
block where that was measured to be faster. On digits, expect no difference that five seeds can show.
"""

from mobileone_core.study import Factor, Study

STUDY = Study(
    name="overparam_methods",
    question="Which way of over-parameterizing trains the best network, and what does it cost?",
    factors=(
        Factor(
            "method",
            settings={
                "none": {"model.reparam": False},
                "mobileone": {"model.block_method": "mobileone", "model.k": 4},
                "repvgg": {"model.block_method": "repvgg"},
                "acnet": {"model.block_method": "acnet"},
                "dbb": {"model.block_method": "dbb"},
                "expandnet": {"model.block_method": "expandnet", "model.k": 4, "model.stem_k": 4},
            },
            baseline="none",
        ),
    ),
    reference="table 4",
    seeds=5,
    published="table4_overparam_methods",
    compares="forms",
)

if __name__ == "__main__":
    from mobileone_core.cli import main

    main(STUDY)
