"""Which recipe and network serve as evidence on Fashion-MNIST? (not in the paper; decided on validation)

    python studies/recipes/fashion.py --data fashion_mnist --data-root DIR --reports reports

Compares candidates by validation accuracy, each with k = 1 and k = 4, so that no level is favoured. "crop" is where the
choice started: the network micro, 8 epochs, batch 256, learning rate 0.4. The recipe "fashion" is "no crop". Test
accuracies are in the record, as always, and decide nothing here.
"""

from mobileone_core.study import Factor, Study

STUDY = Study(
    name="fashion_recipe",
    question="Which recipe and network serve as evidence on Fashion-MNIST?",
    factors=(
        Factor(
            "candidate",
            settings={
                "crop": {},
                "4 epochs": {"recipe.epochs": 4},
                "12 epochs": {"recipe.epochs": 12},
                "lr 0.2": {"recipe.lr": 0.2},
                "lr 0.8": {"recipe.lr": 0.8},
                "batch 128": {"recipe.batch_size": 128},
                "twice as wide": {"model.widths": (16, 32, 64, 128)},
                "no crop": {"recipe.augmentation": "none"},
                "no crop, 4 epochs": {"recipe.augmentation": "none", "recipe.epochs": 4},
                "no crop, 12 epochs": {"recipe.augmentation": "none", "recipe.epochs": 12},
                "no crop, lr 0.2": {"recipe.augmentation": "none", "recipe.lr": 0.2},
            },
            baseline="crop",
        ),
        Factor("k", "model.k", levels=(1, 4), baseline=1),
    ),
    variant="micro",
    base={"recipe.augmentation": "crop"},
    seeds=1,
    metric="val/top1",
    curves=("train/loss", "val/loss"),
)

if __name__ == "__main__":
    from mobileone_core.cli import main

    main(STUDY)
