"""Which recipe and which small network serve as evidence on Fashion-MNIST? (not in the paper; decided on validation)

    python studies/fashion_recipe.py --data fashion_mnist --data-root DIR

Compares candidates on validation accuracy, each with k = 1 and k = 4, so that no level is favoured. The recipe
"fashion" and the variant micro follow from it; the test set decides nothing here.
"""

from mobileone_core.study import Factor, Study

STUDY = Study(
    name="fashion_recipe",
    question="Which recipe and which small network serve as evidence on Fashion-MNIST?",
    factors=(
        Factor(
            "candidate",
            settings={
                "fashion": {},
                "4 epochs": {"recipe.epochs": 4},
                "12 epochs": {"recipe.epochs": 12},
                "lr 0.2": {"recipe.lr": 0.2},
                "lr 0.8": {"recipe.lr": 0.8},
                "no crop": {"recipe.augmentation": "none"},
                "batch 128": {"recipe.batch_size": 128},
                "twice as wide": {"model.widths": (16, 32, 64, 128)},
            },
            baseline="fashion",
        ),
        Factor("k", "model.k", levels=(1, 4), baseline=1),
    ),
    metric="val/top1",
    seeds=2,
    curves=("train/loss", "val/loss"),
)

if __name__ == "__main__":
    from mobileone_core.cli import main

    main(STUDY)
