"""Which backbone detects best for its cost? (MobileOne, table 11a)

    python studies/detection.py                                          # tiny and small on scenes of digits
    python studies/detection.py --data coco --data-root DIR --variant s1 --backbone s1 s4 timm:mobilevit_s --device cuda
    python studies/detection.py --backbone tiny small micro --seeds 5

Every backbone carries the same SSDLite head. The last cell measures latency of the whole deployed networks, in ONNX
Runtime, one image. Scenes are composed of embedded digits, others in every epoch: objects are
real, scenes are not. On COCO the recipe is MobileViT's (mobilevit-ssdlite-coco), which the authors say they followed;
their own learning rates were not published, and table 11a has one number per backbone, without spread. Give --init FILE
for a backbone that was trained on ImageNet, as theirs were.
"""

from mobileone_core.study import Factor, Study

STUDY = Study(
    name="detection",
    question="Which backbone detects best for its cost?",
    factors=(Factor("backbone", "backbone", levels=("tiny", "small"), baseline="tiny"),),
    reference="table 11a",
    published="table11a_coco_ssdlite_map",
    task="detection",
    data="scenes",
    recipe="scenes-ssdlite",
    base={"data.image_size": 64},
    seeds=3,
    metric="test/map",
    figure="cost",
    compares="latency",
    curves=("val/map50",),
)

if __name__ == "__main__":
    from mobileone_core.cli import main

    main(STUDY)
