"""Do the paper's choices survive transfer: more branches, and pre-training? (not in the paper)

    python studies/transfer.py                                           # detection on scenes of digits
    python studies/transfer.py --task segmentation
    python studies/transfer.py --k 1 4 --seeds 5 --data coco --data-root DIR --init FILE --pretraining none

MobileOne's table 11 has one number per backbone and no ablation. Here tiny with k = 1 and 4 branches per block is
trained on scenes with a head, starting at random or from its own classification cell: the same backbone, which first
learns to classify the digits that the scenes are composed of, with the same seed. --no-reparam --k 1 trains without
branches.
"""

from mobileone_core.study import Factor, Study

STUDY = Study(
    name="transfer",
    question="Do branches and pre-training help a backbone of a detector or segmenter?",
    factors=(
        Factor("k", "model.k", levels=(1, 4), baseline=1),
        Factor(
            "pretraining",
            settings={"none": {"recipe.init": ""}, "classification": {"recipe.init": "classification"}},
            baseline="none",
        ),
    ),
    task="detection",
    data="scenes",
    recipe="scenes-ssdlite",
    base={"data.image_size": 64},
    seeds=3,
    metric="test/map",
)

if __name__ == "__main__":
    from mobileone_core.cli import main

    main(STUDY)
