"""What does a training step cost as k grows, branch by branch and folded? (MobileOne, section 3.3)

    python studies/training_cost.py                                        # S0, 8 images of 224 px, two threads
    python studies/training_cost.py --k 1 4 --batch-size 32 --image-size 64 --rounds 20
    python studies/training_cost.py --path branches folded auto --variant s1 --threads 4
    python studies/training_cost.py --k 1 2 4 8 16                         # five minutes and 5 GB
    python studies/training_cost.py --device cuda --precision bf16-mixed --channels-last --batch-size 256

During training each of k branches per block is convolved, normalized, stored and differentiated. Folded, a block trains
as one convolution: the same network to the last gradient (mobileone_core/model/folded). Measures the time of a step,
what it stores for the backward pass, and its peak memory for both, and for timm's network with the same weights. Steps
run on random images, interleaved; nothing is trained. Three minutes and 3 GB on two cores. Expect the branches' cost to
grow to about five times at k = 8 and the folded step's by about a fifth, to half the branches' cost at k = 4.
"""

from mobileone_core.study import Factor, MeasuredStudy, Protocol, StepCell

STUDY = MeasuredStudy(
    name="training_cost",
    question="What does a training step cost as k grows?",
    factors=(
        Factor("path", "step.path", levels=("branches", "folded", "timm"), baseline="branches"),
        Factor("k", "step.k", levels=(1, 2, 4, 8), baseline=1),
    ),
    reference="section 3.3",
    base=StepCell(),
    protocol=Protocol(rounds=16, burst=1, warmup=1, untimed=0),
    view="training",
)

if __name__ == "__main__":
    from mobileone_core.cli import main

    main(STUDY)
