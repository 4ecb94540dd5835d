"""Does accuracy rise with the over-parameterization factor k? (MobileOne, table 6)

    python studies/branch_count.py                                   # tiny on digits, minutes on two cores
    python studies/branch_count.py --variant s0 --data cifar10 --data-root ~/data --device cuda
    python studies/branch_count.py --variant s0 --data imagenet --data-root /data/imagenet --recipe paper

The paper prints one number per level, without seeds or error bars: S0 gains 0.5 points from k = 1 to k = 4, S1 loses
0.3, and k ends at 5. Differences of that size are below what five seeds on digits can show. Folded training costs
little more at k = 8 than at k = 1 (studies/training_cost.py), so k extends to 16 here.
"""

from mobileone_core.study import Factor, Study

STUDY = Study(
    name="branch_count",
    question="Does accuracy rise with the over-parameterization factor k?",
    factors=(Factor("k", "model.k", levels=(1, 2, 3, 4, 5, 8, 16), baseline=1),),
    reference="table 6",
    seeds=5,
    metric="test/top1",
    published="table6_branch_count_top1",
)

if __name__ == "__main__":
    from mobileone_core.cli import main

    main(STUDY)
