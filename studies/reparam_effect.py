"""What do the train-time branches bring, and what do they cost? (MobileOne, table 5 and figure 4)

    python studies/reparam_effect.py                                   # tiny on digits, minutes on two cores
    python studies/reparam_effect.py --variant s1 --branches none 1    # table 5's S1, which has k = 1
    python studies/reparam_effect.py --variant s0 --data imagenet --data-root /data/imagenet --device cuda

"none" is the plain network, one conv-BN per block without scale and skip branches; 1 and 4 are k. Table 5 prints one
number per variant: with branches S0 gains 1.8 points, S1 1.3, S3 0.9. Figure 4 shows the losses of none, k = 1 and
k = 4 on S0. The last cell measures time and memory of all levels in train form and deployed form. On digits, expect no
difference in accuracy, and a training step at k = 4 that takes about twice the time of the plain one, although each
block trains as one convolution; --blocks branches computes every branch and costs several times more.
"""

from mobileone_core.study import Factor, Study

STUDY = Study(
    name="reparam_effect",
    question="What do the train-time branches bring, and what do they cost?",
    factors=(
        Factor(
            "branches",
            settings={"none": {"model.reparam": False}, "1": {"model.k": 1}, "4": {"model.k": 4}},
            baseline="none",
        ),
    ),
    reference="table 5 and figure 4",
    seeds=10,
    published="table5_reparam_branches_top1",
    curves=("train/loss", "val/loss"),
    compares="forms",
)

if __name__ == "__main__":
    from mobileone_core.cli import main

    main(STUDY)
