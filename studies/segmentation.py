"""Which backbone segments best for its cost? (MobileOne, table 11b)

    python studies/segmentation.py                                       # tiny and small on scenes of digits
    python studies/segmentation.py --data voc --data-root DIR --variant s1 --backbone s1 s4 --device cuda
    python studies/segmentation.py --data ade20k --data-root DIR --variant s1 --backbone s1 timm:mobilevit_s

Every backbone, dilated to an output stride of 8, carries the same DeepLabV3 head. The last cell measures latency of the
whole deployed networks, in ONNX Runtime, one image. Scenes are composed of embedded
digits: objects are real, scenes are not; the background is a class. On VOC and ADE20K the recipes are those of CVNets
(mobilevit-deeplab-voc, cvnets-deeplab-ade20k); the authors' own were not published, and table 11b has one number per
backbone, without spread. Give --init FILE for a backbone that was trained on ImageNet, as theirs were.
"""

from mobileone_core.study import Factor, Study

STUDY = Study(
    name="segmentation",
    question="Which backbone segments best for its cost?",
    factors=(Factor("backbone", "backbone", levels=("tiny", "small"), baseline="tiny"),),
    reference="table 11b",
    published="table11b_deeplabv3_miou",
    task="segmentation",
    data="scenes",
    recipe="scenes-deeplab",
    base={"data.image_size": 64},
    seeds=3,
    metric="test/miou",
    figure="cost",
    compares="latency",
    curves=("val/miou",),
)

if __name__ == "__main__":
    from mobileone_core.cli import main

    main(STUDY)
