"""Does a larger network's soft labels make a better student? (MobileOne, table 10)

    python studies/distillation.py                                     # tiny learns from small, minutes on two cores
    python studies/distillation.py --teachers small s0                 # two teachers, averaged
    python studies/distillation.py --temperature 1 --hard-label-weight 0         # MEAL V2's flavour
    python studies/distillation.py --variant s0 --data imagenet --data-root DIR --teachers timm:resnet50=FILE

Unless one is named, the teacher is the next larger variant (S4's is its own kind). A teacher named by a variant alone
is trained first, by the same recipe and seed, on the same split; NAME=FILE takes weights from a file: of a variant,
of timm:NAME or of torchvision:NAME. Table 10 prints baseline and distilled top-1
by the recipe of MEAL V2 (S0 gains 1.1 points, S4 2.0); MobileOne's own settings for it are not published.
"""

from mobileone_core.study.declaration import Factor, Study

STUDY = Study(
    name="distillation",
    question="Do a larger network's soft labels make a better student?",
    factors=(Factor("distillation", settings={"off": {"recipe.teachers": ()}, "on": {}}, baseline="off"),),
    reference="table 10",
    published="table10_distillation_top1",
    seeds=10,
    base={"recipe.teachers": ("larger",)},
)

if __name__ == "__main__":
    from mobileone_core.cli import main

    main(STUDY)
