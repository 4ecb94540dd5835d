"""Wider or deeper: what buys accuracy for the same cost? (MobileOne, the scaling of table 7)

    python studies/width_and_depth.py                                  # tiny on digits, minutes on two cores
    python studies/width_and_depth.py --variant s0 --width 0.75 1 1.5 --data cifar10 --data-root ~/data

Table 7 scales S0 to S4 by width alone and keeps the depths of the stages. Levels multiply the variant's widths
(rounded to a multiple of 8) and depths; k is fixed. Accuracy is drawn over parameters and multiply-adds. The digits
recipe clips gradients at norm 1, since single seeds of wide and deep networks diverge without it (--clip-norm 0).
"""

from mobileone_core.study import Factor, Study

STUDY = Study(
    name="width_and_depth",
    question="Wider or deeper: what buys accuracy for the same cost?",
    factors=(
        Factor("width", "model.width", levels=(0.5, 1.0, 2.0), baseline=1.0),
        Factor("depth", "model.depth", levels=(1.0, 2.0), baseline=1.0),
    ),
    reference="table 7",
    figure="cost",
)

if __name__ == "__main__":
    from mobileone_core.cli import main

    main(STUDY)
