"""Does Apple's later recipe train MobileOne better than the paper's? (not in the paper; CoreNet, 2024)

    python studies/recipe.py                                         # tiny on digits, minutes on two cores
    python studies/recipe.py --data fashion_mnist --data-root ~/data --recipes paper-54000 corenet-54000
    python studies/recipe.py --variant s1 --data imagenet --data-root /data/imagenet --recipes paper corenet

Levels are whole recipes by name; the first is the baseline. Both published ones take 300 epochs of ImageNet. NAME-N is
NAME scaled by rule (`fitted_recipe`) to N training images: batch, epochs, length of warm-up, averaging and augmentation
change; rates, momentum, weight decay, label smoothing and the five resolutions, as shares of the images' size, stay.
Apple's configuration of S1 reaches 75.3 % in its README, where the paper prints 75.9 %, one run each. A comparison on
digits decides nothing about ImageNet: read mobileone_core/training/README.md before spending weeks of a GPU.
"""

from mobileone_core.study import Factor, Study

STUDY = Study(
    name="recipe",
    question="Does Apple's later recipe train better than the paper's?",
    factors=(Factor("recipes", "recipe", levels=("paper-1210", "corenet-1210", "digits"), baseline="paper-1210"),),
    seeds=5,
    curves=("val/top1", "train/learning_rate"),
)

if __name__ == "__main__":
    from mobileone_core.cli import main

    main(STUDY)
