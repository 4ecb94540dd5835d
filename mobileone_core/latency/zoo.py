"""Networks that can be timed, by name, and the library that builds each: table 9, our variants, and newer networks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mobileone_core.errors import require_choice
from mobileone_core.model.libraries import split_name

OURS = "mobileone_"
MISSING = "no supported library has it"


@dataclass(frozen=True)
class ZooEntry:
    """A network and the library that builds it.

    title: in tables, table 9's. library: mobileone, timm, torchvision, or empty if none of them has the network. entry:
    its name there, with options. note: how the library's network differs from the published one.
    """

    title: str
    library: str = "timm"
    entry: str = ""
    options: Mapping[str, float] = field(default_factory=dict)
    note: str = ""


BETWEEN = "the published multiply-adds lie between ours at 224 and at 256 px, the size it was designed for"
SMALLER = "6.9 M parameters published, 6.1 M built"
REPVGG = ("a0", "a1", "a2", "b0", "b1")
ZOO: dict[str, ZooEntry] = {
    **{f"{OURS}s{size}": ZooEntry(f"MobileOne-S{size}", "mobileone", f"s{size}") for size in range(5)},
    f"{OURS}tiny": ZooEntry("MobileOne tiny (ours)", "mobileone", "tiny"),
    f"{OURS}small": ZooEntry("MobileOne small (ours)", "mobileone", "small"),
    "mobilenet_v1": ZooEntry("MobileNetV1", entry="mobilenetv1_100"),
    "mobilenet_v2": ZooEntry("MobileNetV2-x1.0", "torchvision", "mobilenet_v2"),
    "mobilenet_v2_x1_4": ZooEntry("MobileNetV2-x1.4", "torchvision", "mobilenet_v2", {"width_mult": 1.4}, SMALLER),
    "mobilenet_v3_large": ZooEntry("MobileNetV3-L", "torchvision", "mobilenet_v3_large"),
    "mobilenet_v3_small": ZooEntry("MobileNetV3-S", "torchvision", "mobilenet_v3_small"),
    "shufflenet_v2_x1_0": ZooEntry("ShuffleNetV2-1.0", "torchvision", "shufflenet_v2_x1_0"),
    "shufflenet_v2_x2_0": ZooEntry("ShuffleNetV2-2.0", "torchvision", "shufflenet_v2_x2_0"),
    "efficientnet_b0": ZooEntry("EfficientNet-B0", entry="efficientnet_b0"),
    "mnasnet_a1": ZooEntry("MNASNet-A1", entry="semnasnet_100", note="torchvision's mnasnet1_0 is B1, without SE"),
    "mixnet_s": ZooEntry("MixNet-S", entry="mixnet_s"),
    **{f"repvgg_{size}": ZooEntry(f"RepVGG-{size.upper()}", entry=f"repvgg_{size}") for size in REPVGG},
    **{
        f"mobilevit_{size}": ZooEntry(f"MobileViT-{size.upper()}", entry=f"mobilevit_{size}", note=BETWEEN)
        for size in ("xxs", "xs", "s")
    },
    "deit_tiny": ZooEntry("DeiT-tiny", entry="deit_tiny_patch16_224"),
    "pit_ti": ZooEntry("PiT-ti", entry="pit_ti_224"),
    "convit_tiny": ZooEntry("ConViT-tiny", entry="convit_tiny", note="1.0 G multiply-adds published, 1.25 G built"),
    "mobilenext_x1_0": ZooEntry("MobileNeXt-x1.0", ""),
    "mobilenext_x1_4": ZooEntry("MobileNeXt-x1.4", ""),
    "mobileformer_52": ZooEntry("Mobileformer-52", ""),
    "mobileformer_96": ZooEntry("Mobileformer-96", ""),
}
TABLE_9 = tuple(name for name, entry in ZOO.items() if "ours" not in entry.title)
PEERS = (  # newer networks, and older ones published with a modern recipe, by timm's names
    *("fastvit_t8", "fastvit_t12", "fastvit_sa12", "repvit_m0_9", "repvit_m1_0", "repvit_m1_5"),
    *("efficientformerv2_s0", "efficientformerv2_s1", "efficientformerv2_s2", "mobilenetv4_conv_small"),
    *("mobilenetv4_conv_medium", "mobilenetv1_100", "starnet_s4", "shvit_s4", "ghostnetv3_100"),
    *("resnet18", "resnet34", "resnet50"),
)
ZOO |= {name: ZooEntry(name, entry=name) for name in PEERS}
# Rows that one name chooses.
GROUPS = {"table9": TABLE_9, "peers": (*(name for name in TABLE_9 if name.startswith(OURS)), *PEERS)}


def zoo_entry(name: str) -> ZooEntry:
    """The network of a name in ZOO, or any classifier timm:NAME or torchvision:NAME. Raises InputError."""
    library, entry = split_name(name)
    if library:
        return ZooEntry(name, library, entry)
    require_choice("model", name, (*ZOO, "timm:NAME", "torchvision:NAME"))
    return ZOO[name]


def chosen_networks(names: Sequence[Any], reference: Any) -> tuple[str, ...]:
    """The networks of names and groups, each once: first the reference, which the others are compared with."""
    return tuple(dict.fromkeys((reference, *(item for name in names for item in GROUPS.get(name, (name,))))))
