"""Do branches, k and EMA hold under corruptions? (MobileOne's table 12 compares networks on ImageNet)

    python studies/robustness.py                                       # tiny on digits, minutes on two cores
    python studies/robustness.py --branches none 1 2 4 8 --seeds 10
    python studies/robustness.py --data fashion_mnist --data-root ~/data

Trains networks without branches and with k = 1 and 4, with averaged and with last weights, and tests each on the test
images and on the same images under noise, blur, contrast, brightness, JPEG, pixelation, rotation and elastic
deformation, each at five severities. The corruptions are ours, made by torchvision's transforms, and not ImageNet-C;
they are seeded by image, so that all networks see the same ones. Any study tests so with --corrupted-test.
`mobileone evaluate --robustness imagenet-c` evaluates the published set. Averaged and last weights are readings of one
training, as the intervals take into account. Expect accuracies 17 to 22 points below clean ones, the lowest for k = 1,
more noise between seeds, and nothing of averaging.
"""

from mobileone_core.study import Factor, Study

STUDY = Study(
    name="robustness",
    question="Do branches and EMA make a network more robust to corruptions?",
    factors=(
        Factor(
            "branches",
            levels=("none", "1", "4"),
            settings={"none": {"model.reparam": False}, **{str(k): {"model.k": k} for k in (1, 2, 4, 8)}},
            baseline="none",
        ),
        Factor("ema", settings={"off": {"recipe.ema_decay": 0.0}, "on": {}}, baseline="off"),
    ),
    base={"recipe.corrupted_test": True},
    metric="corrupted/top1",
    reference="table 12",
)

if __name__ == "__main__":
    from mobileone_core.cli import main

    main(STUDY)
