"""What do progressive learning, weight-decay annealing and averaged weights bring? (MobileOne, table 8)

    python studies/training_strategy.py                                # tiny on digits, minutes on two cores
    python studies/training_strategy.py --variant s2 --data imagenet --data-root /data/imagenet --device cuda

Trains all eight combinations; the paper's cumulative rows are four of them. Main effects and interactions, which the
paper does not report, follow from the same cells. "on" is the recipe's setting (the paper's phases at the resolution of
the data, weight decay to 1e-5, the recipe's EMA); --phases, --weight-decay-end and --ema-decay change it. Table 8
prints gains of 0.4 and 0.5 points and a final 77.4 % for S2, without seeds. On digits, expect progressive learning to
cost about a point and no effect of the others.
"""

from mobileone_core.study import Factor, Study

STUDY = Study(
    name="training_strategy",
    question="What do progressive learning, weight-decay annealing and averaged weights bring?",
    factors=(
        Factor("progressive", settings={"off": {"recipe.phases": ()}, "on": {}}, baseline="off"),
        Factor("annealing", settings={"off": {"recipe.weight_decay_end": None}, "on": {}}, baseline="off"),
        Factor("ema", settings={"off": {"recipe.ema_decay": 0.0}, "on": {}}, baseline="off"),
    ),
    reference="table 8",
    published="table8_training_settings_s2_top1",
    base={"recipe.phases": "paper", "recipe.weight_decay_end": 1e-5},
)

if __name__ == "__main__":
    from mobileone_core.cli import main

    main(STUDY)
