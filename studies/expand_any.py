"""Does over-parameterization help networks that it was not made for? (not in MobileOne)

    python studies/expand_any.py                                         # six small networks, minutes on two cores
    python studies/expand_any.py --networks timm:mobilenetv2_050 mynets:small    # small(num_classes) in ./mynets.py
    python studies/expand_any.py --networks resnet regnet --method plain mobileone k2 repvgg acnet dbb expandnet
    python studies/expand_any.py --networks torchvision:resnet18 --data cifar10 --data-root ~/data --device cuda

Every network is trained plain and with MobileOne's branches (k = 4, 1x1 scale and skip) for each convolution that a
batch norm follows. Both start from the same weights of these convolutions and see the same images in the same order:
seeds pair them. Afterwards fold gives back the network's own class and state dict. The networks are narrow variants,
made by their libraries' own arguments, that learn digits in seconds. Last, time and memory of their steps are measured.
On digits, expect a gain of about a point on average, most of it of the RegNet, which trains worst when plain.
"""

from mobileone_core.study import Factor, Protocol, Study

NETWORKS = {
    "resnet": "timm:resnet10t(channels=[8, 16, 32, 64], stem_width=8)",
    "mobilenetv2": "torchvision:mobilenet_v2(width_mult=0.25, "
    "inverted_residual_setting=[[1, 16, 1, 1], [4, 32, 2, 2], [4, 64, 2, 2]])",
    "mobilenetv3": "timm:mobilenetv3_small_050(depth_multiplier=0.3)",
    "shufflenetv2": "torchvision.models:ShuffleNetV2(stages_repeats=[2, 2, 1], "
    "stages_out_channels=[16, 32, 64, 128, 256])",
    "regnet": "timm:regnetx_002(depth=5, w0=16, wa=12.0, wm=1.5, group_size=8, stem_width=16)",
    "convnext_bn": "timm:convnext_atto(depths=[1, 1, 1, 1], dims=[16, 24, 32, 48], conv_mlp=True, "
    "norm_layer='batchnorm2d', patch_size=2)",
}
EXPANDED = {"expand.method": "mobileone"}

STUDY = Study(
    name="expand_any",
    question="Does over-parameterization help networks that it was not made for?",
    factors=(
        Factor("networks", "backbone", labels=NETWORKS, baseline="resnet"),
        Factor(
            "method",
            levels=("plain", "mobileone"),
            settings={
                "plain": {"expand.method": "none"},
                "mobileone": EXPANDED,
                **{f"k{k}": {**EXPANDED, "expand.k": k} for k in (1, 2, 8)},
                **{name: {"expand.method": name} for name in ("repvgg", "acnet", "dbb", "expandnet")},
            },
            baseline="plain",
        ),
    ),
    base={"recipe.epochs": 8},
    seeds=5,
    compares="forms",
    protocol=Protocol(rounds=10, burst=2, warmup=1),
    within="networks",
)

if __name__ == "__main__":
    from mobileone_core.cli import main

    main(STUDY)
