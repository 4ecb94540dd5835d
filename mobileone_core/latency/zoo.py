"""Networks that can be timed, by name, and the library that builds each: the rows of table 9 and our own variants."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from mobileone_core.errors import require_choice

Library = Literal["mobileone", "timm", "torchvision", ""]
OURS = "mobileone_"
MISSING = "no supported library has it"


@dataclass(frozen=True)
class ZooEntry:
    """A network and the library that builds it.

    title: first column of table 9. library: empty if no library has the network. entry: its name there, with options.
    sized: whether it is built for one image size (img_size). folds: whether timm folds branches for deployment. note:
    how the library's network differs from the published one.
    """

    title: str
    library: Library = "timm"
    entry: str = ""
    options: Mapping[str, float] = field(default_factory=dict)
    sized: bool = False
    folds: bool = False
    note: str = ""


BETWEEN = "the published multiply-adds lie between ours at 224 and at 256 px, the size it was designed for"
ZOO: dict[str, ZooEntry] = {
    **{f"{OURS}s{size}": ZooEntry(f"MobileOne-S{size}", "mobileone", f"s{size}") for size in range(5)},
    f"{OURS}tiny": ZooEntry("MobileOne tiny (ours)", "mobileone", "tiny"),
    f"{OURS}small": ZooEntry("MobileOne small (ours)", "mobileone", "small"),
    "mobilenet_v1": ZooEntry("MobileNetV1", entry="mobilenetv1_100"),
    "mobilenet_v2": ZooEntry("MobileNetV2-x1.0", "torchvision", "mobilenet_v2"),
    "mobilenet_v2_x1_4": ZooEntry(
        "MobileNetV2-x1.4",
        "torchvision",
        "mobilenet_v2",
        {"width_mult": 1.4},
        note="6.9 M parameters published, 6.1 M built",
    ),
    "mobilenet_v3_large": ZooEntry("MobileNetV3-L", "torchvision", "mobilenet_v3_large"),
    "mobilenet_v3_small": ZooEntry("MobileNetV3-S", "torchvision", "mobilenet_v3_small"),
    "shufflenet_v2_x1_0": ZooEntry("ShuffleNetV2-1.0", "torchvision", "shufflenet_v2_x1_0"),
    "shufflenet_v2_x2_0": ZooEntry("ShuffleNetV2-2.0", "torchvision", "shufflenet_v2_x2_0"),
    "efficientnet_b0": ZooEntry("EfficientNet-B0", entry="efficientnet_b0"),
    "mnasnet_a1": ZooEntry("MNASNet-A1", entry="semnasnet_100", note="torchvision's mnasnet1_0 is B1, without SE"),
    "mixnet_s": ZooEntry("MixNet-S", entry="mixnet_s"),
    **{
        f"repvgg_{name}": ZooEntry(f"RepVGG-{name.upper()}", entry=f"repvgg_{name}", folds=True)
        for name in ("a0", "a1", "a2", "b0", "b1")
    },
    "mobilevit_xxs": ZooEntry("MobileViT-XXS", entry="mobilevit_xxs", note=BETWEEN),
    "mobilevit_xs": ZooEntry("MobileViT-XS", entry="mobilevit_xs", note=BETWEEN),
    "mobilevit_s": ZooEntry("MobileViT-S", entry="mobilevit_s", note=BETWEEN),
    "deit_tiny": ZooEntry("DeiT-tiny", entry="deit_tiny_patch16_224", sized=True),
    "pit_ti": ZooEntry("PiT-ti", entry="pit_ti_224", sized=True),
    "convit_tiny": ZooEntry(
        "ConViT-tiny", entry="convit_tiny", sized=True, note="1.0 G multiply-adds published, 1.25 G built"
    ),
    "mobilenext_x1_0": ZooEntry("MobileNeXt-x1.0", ""),
    "mobilenext_x1_4": ZooEntry("MobileNeXt-x1.4", ""),
    "mobileformer_52": ZooEntry("Mobileformer-52", ""),
    "mobileformer_96": ZooEntry("Mobileformer-96", ""),
}
TABLE_9 = tuple(name for name, entry in ZOO.items() if "ours" not in entry.title)


def zoo_entry(name: str) -> ZooEntry:
    """The network of a name. Raises InputError for an unknown name."""
    require_choice("model", name, ZOO)
    return ZOO[name]
