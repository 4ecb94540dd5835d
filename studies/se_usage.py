"""Where do squeeze-and-excite blocks pay? (MobileOne, section 3.1 and table 7's S4)

    python studies/se_usage.py                                         # tiny on digits, minutes on two cores
    python studies/se_usage.py --variant s4 --data imagenet --data-root /data/imagenet --device cuda

Compares no SE, S4's placement (the last half of the third stage and all of the fourth), and SE after every
convolution; --se none 0,0,1,1 takes other placements, as blocks per stage. The paper prints no accuracy for this
choice: it keeps SE out of S0 to S3 because it raises latency (table 3). Accuracy is drawn over cost.
"""

from mobileone_core.study import Factor, Study

STUDY = Study(
    name="se_usage",
    question="Where do squeeze-and-excite blocks pay?",
    factors=(Factor("se", "model.se", levels=("none", "paper", "all"), baseline="none"),),
    reference="section 3.1",
    seeds=10,
    figure="cost",
)

if __name__ == "__main__":
    from mobileone_core.cli import main

    main(STUDY)
