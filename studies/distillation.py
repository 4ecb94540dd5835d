"""Do a larger network's soft labels make a better student? (MobileOne, table 10)

    python studies/distillation.py                                     # tiny learns from small, minutes on two cores
    python studies/distillation.py --teachers small s0                 # two teachers, averaged
    python studies/distillation.py --temperature 1 --hard-label-weight 0         # as in MEAL V2
    python studies/distillation.py --variant s0 --data imagenet --data-root DIR --teachers timm:resnet50=FILE

The default teacher is the next larger variant (S4 for S4). A teacher named by a variant alone is trained first, with
the same recipe, seed and split; NAME=FILE reads weights of a variant, timm:NAME or torchvision:NAME from a file.
Table 10 prints baseline and distilled top-1 with the recipe of MEAL V2 (S0 gains 1.1 points, S4 2.0); MobileOne's
settings are not published.
"""

from mobileone_core.study import Factor, Study

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
