"""Data sets as data: those that have a name, and which images a cell reads."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from mobileone_core.errors import require, require_choice, require_integer
from mobileone_core.fields import FRACTION, check_options, number_rule, option

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
IMAGENET_ARCHIVES = ("ILSVRC2012_devkit_t12.tar.gz", "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar")
IDX_FILES = tuple(f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))
MAX_IMAGE_SIZE = 8192  # pixels
EVAL_CROP = 0.875  # centre crop as a fraction of the resized shorter side: 224 of 256
_SIZE = partial(require_integer, at_most=MAX_IMAGE_SIZE)
_UNTIL = number_rule(lambda value: 0 < value <= 1, "a fraction of training above 0, 1 at most")
_SHARE = number_rule(lambda value: 0 < value < 1, "a fraction between 0 and 1")
DIGITS = "0,1,2,3,4,5,6,7,8,9"


@dataclass(frozen=True)
class DataSet:
    """A data set by name: its number of classes, resolution (pixels), channels and normalization.

    mean and std, one value per channel, are those of training pixels in [0, 1], ImageNet's by default. classes is 0 if
    the image folder decides, and class_names, in the order of the labels, are then empty. directory is where
    torchvision puts its download, below the data root; empty without a download, or without a folder of its own. reader
    is the class of torchvision.datasets that reads it, train and test its arguments for the splits. files may lie in
    the data root itself, and so may archives, from which torchvision unpacks the set; unpacked gives the MD5 sums of
    the content of files by name. With transposed, rows and columns are swapped in the files. With upright, EXIF
    orientation turns images; torchvision and the published results of ImageNet ignore it. tasks are those that the set
    has targets for; background says whether masks count a class 0 besides classes. train_images counts the training
    images before validation is carved from them; 0 where they are counted in the files.
    """

    classes: int = 0
    image_size: int = 224
    channels: int = 3
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    in_memory: bool = False
    directory: str = ""
    val_fraction: float = 0.1
    reader: str = ""
    train: Mapping[str, Any] = field(default_factory=lambda: {"train": True})
    test: Mapping[str, Any] = field(default_factory=lambda: {"train": False})
    files: tuple[str, ...] = ()
    archives: tuple[str, ...] = ()
    unpacked: Mapping[str, str] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()
    transposed: bool = False
    upright: bool = False
    tasks: tuple[str, ...] = ("classification",)
    background: bool = False
    train_images: int = 0


def _memory_set(
    reader: str, size: int, classes: str, mean: tuple[float, ...], std: tuple[float, ...], **row: Any
) -> DataSet:
    """A data set that is read into memory; classes are its class names, separated by commas."""
    names = tuple(classes.split(","))
    return DataSet(len(names), size, len(mean), mean, std, in_memory=True, reader=reader, class_names=names, **row)


def _annotated_set(task: str, size: int, classes: int = 0, val_fraction: float = 0.1, **row: Any) -> DataSet:
    return DataSet(classes, size, val_fraction=val_fraction, upright=True, tasks=(task,), **row)


def _idx_set(reader: str, mean: float, std: float, classes: str, sums: str = "") -> DataSet:
    """A set in MNIST's files; sums are the MD5 sums of their unpacked content, in the order of IDX_FILES."""
    names = [file.removesuffix(".gz") for file in IDX_FILES]
    unpacked = dict(zip(names, sums.split(), strict=True)) if sums else {}
    files: Any = {"directory": reader, "files": IDX_FILES, "unpacked": unpacked}
    return _memory_set(reader, 28, classes, (mean,), (std,), train_images=60_000, **files)


_FASHION = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot"
_CIFAR10 = "airplane,automobile,bird,cat,deer,dog,frog,horse,ship,truck"
_CIFAR100 = (
    "apple,aquarium_fish,baby,bear,beaver,bed,bee,beetle,bicycle,bottle,bowl,boy,bridge,bus,butterfly,camel,can,castle,"
    "caterpillar,cattle,chair,chimpanzee,clock,cloud,cockroach,couch,crab,crocodile,cup,dinosaur,dolphin,elephant,"
    "flatfish,forest,fox,girl,hamster,house,kangaroo,keyboard,lamp,lawn_mower,leopard,lion,lizard,lobster,man,"
    "maple_tree,motorcycle,mountain,mouse,mushroom,oak_tree,orange,orchid,otter,palm_tree,pear,pickup_truck,pine_tree,"
    "plain,plate,poppy,porcupine,possum,rabbit,raccoon,ray,road,rocket,rose,sea,seal,shark,shrew,skunk,skyscraper,"
    "snail,snake,spider,squirrel,streetcar,sunflower,sweet_pepper,table,tank,telephone,television,tiger,tractor,train,"
    "trout,tulip,turtle,wardrobe,whale,willow_tree,wolf,woman,worm"
)
_VOC = (
    "aeroplane,bicycle,bird,boat,bottle,bus,car,cat,chair,cow,diningtable,dog,horse,motorbike,person,pottedplant,sheep,"
    "sofa,train,tvmonitor"
)
_EMNIST = "0,1,2,3,4,5,6,7,8,9,A,B,C,D,E,F,G,H,I,J,K,L,M,N,O,P,Q,R,S,T,U,V,W,X,Y,Z,a,b,d,e,f,g,h,n,q,r,t"
_STL10 = "airplane,bird,car,cat,deer,dog,horse,monkey,ship,truck"
_SPLITS: Mapping[str, Any] = {"train": {"split": "train"}, "test": {"split": "test"}}
_BALANCED: Mapping[str, Any] = {name: {"split": "balanced", "train": name == "train"} for name in ("train", "test")}

DATA_SETS: dict[str, DataSet] = {
    # Measured on the scans resized to 32 px: bilinear resizing lowers the standard deviation.
    "digits": _memory_set("", 32, DIGITS, (0.3053,), (0.3235,), train_images=1346),
    "mnist": _idx_set("MNIST", 0.1307, 0.3081, DIGITS,
                      "6bbc9ace898e44ae57da46a324031adb a25bea736e30d166cdddb491f175f624 "
                      "2646ac647ad5339dbf082846283269ea 27ae3e4e09519cfbb04c329615203637"),
    "fashion_mnist": _idx_set("FashionMNIST", 0.2860, 0.3530, _FASHION,
                              "f4a8712d7a061bf5bd6d2ca38dc4d50a 9018921c3c673c538a1fc5bad174d6f9 "
                              "8181f5470baa50b63fa0f6fddb340f0a 15d484375f8d13e6eb1aabb0c3f46965"),
    "kmnist": _idx_set("KMNIST", 0.1918, 0.3483, "o,ki,su,tsu,na,ha,ma,ya,re,wo"),
    # The balanced split: letters whose two cases look alike are one class.
    "emnist": _memory_set("EMNIST", 28, _EMNIST, (0.1751,), (0.3332,),
                          train_images=112_800, directory="EMNIST", transposed=True, **_BALANCED),
    "svhn": _memory_set("SVHN", 32, DIGITS, (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970),
                        train_images=73_257, files=("train_32x32.mat", "test_32x32.mat"), **_SPLITS),
    "stl10": _memory_set("STL10", 96, _STL10, (0.4467, 0.4398, 0.4066), (0.2603, 0.2566, 0.2713),
                         train_images=5000, directory="stl10_binary", archives=("stl10_binary.tar.gz",), **_SPLITS),
    "cifar10": _memory_set("CIFAR10", 32, _CIFAR10, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616),
                           train_images=50_000, directory="cifar-10-batches-py", archives=("cifar-10-python.tar.gz",)),
    "cifar100": _memory_set("CIFAR100", 32, _CIFAR100, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762),
                            train_images=50_000, directory="cifar-100-python", archives=("cifar-100-python.tar.gz",)),
    "imagenette": DataSet(10, directory="imagenette2", reader="Imagenette", archives=("imagenette2.tgz",),
                          train={}, test={}, train_images=9469),
    # Validation is 1 % of ImageNet's train split, as in big_vision's "minival".
    "imagenet": DataSet(1000, val_fraction=0.01, archives=(*IMAGENET_ARCHIVES, "meta.bin"), train_images=1_281_167),
    "folder": DataSet(upright=True),
    # Composed of the items of another set, which gives the classes. Measured on 1,000 scenes of digits at 96 px.
    "scenes": DataSet(10, 96, 1, (0.236,), (0.141,), in_memory=True, tasks=("detection", "segmentation"),
                      background=True, train_images=2000),
    "coco": _annotated_set("detection", 320, 80, 0.02, train_images=118_287),
    "boxes": _annotated_set("detection", 320),
    "voc": _annotated_set("segmentation", 512, 20, 0.05, class_names=tuple(_VOC.split(",")), background=True,
                          train_images=10_582),
    "ade20k": _annotated_set("segmentation", 512, 150, 0.05, train_images=20_210),
    "masks": _annotated_set("segmentation", 512),
}  # fmt: skip

AUGMENTATIONS = {
    "classification": ("none", "crop", "crop_flip", "resized_crop_flip"),
    "detection": ("none", "ssd", "ssdlite"),
    "segmentation": ("none", "scale_crop_flip"),
}
SCENE_ITEMS = ("digits", "mnist", "fashion_mnist", "kmnist", "emnist")  # grey, on black


@dataclass(frozen=True)
class Phase:
    """A phase of progressive learning. Raises InputError."""

    until: float = field(metadata={"rule": _UNTIL})  # fraction of training at which the phase ends; 1 for the last
    image_size: int = field(metadata={"rule": _SIZE})  # pixels
    autoaugment: float = field(metadata={"rule": FRACTION})  # strength, 0 for none and 1 as published

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True)
class DataSpec:
    """The images of a cell: a data set by name, the resolution to read it at, and the validation split.

    image_size is in pixels. val_fraction is the share of every class of the training images that becomes validation.
    fingerprint identifies the content of an image folder; it is empty for named data sets. class_images counts the
    images of every class in train/, and is_carved says whether validation is taken from them: facts about the content,
    known where the data set was looked up, and no part of a cell's key. items is the data set that scenes are composed
    of. num_classes counts the background of masks, but not that of boxes. Raises InputError.
    """

    name: str = "digits"
    image_size: int = option(32, "Resolution of the images in pixels.", _SIZE)
    num_classes: int = field(default=10, metadata={"rule": require_integer})
    channels: int = field(default=1, metadata={"rule": require_integer})
    val_fraction: float = option(0.1, "Share of the training images of every class that becomes validation.", _SHARE)
    fingerprint: str = ""
    class_images: tuple[int, ...] = field(default=(), compare=False, repr=False)
    is_carved: bool = field(default=True, compare=False, repr=False)
    items: str = option("digits", "Data set whose images scenes are composed of.")

    @property
    def title(self) -> str:
        """The data set in a title: its name; that of an image folder carries the first digits of its fingerprint."""
        items = "" if self.items == "digits" else f"of {self.items} "
        return f"{self.name} {items}{self.fingerprint[:6]}".strip()

    @property
    def digest(self) -> str:
        """12 hex digits that identify the images as they are read."""
        return self.fingerprint or hashlib.sha256(repr(self).encode()).hexdigest()[:12]

    def __post_init__(self) -> None:
        check_options(self)
        require(self.name == "scenes" or self.items == "digits", "items", self.items, "it is for scenes alone")
        require_choice("items", self.items, SCENE_ITEMS)

    @property
    def train_images(self) -> int:
        """Training images that validation leaves; 0 if unknown, as in a record."""
        carved = sum(carved_images(count, self.val_fraction) for count in self.class_images)
        return sum(self.class_images) - carved * self.is_carved


def data_sets(task: str) -> tuple[str, ...]:
    """Names of the data sets that have targets for a task."""
    return tuple(name for name, entry in DATA_SETS.items() if task in entry.tasks)


def resized_side(image_size: int, crop: float) -> int:
    """Pixels of the shorter side before a centre crop of image_size, rounded down as timm does."""
    return math.floor(image_size / crop)


def carved_images(count: int, fraction: float) -> int:
    """Images of a class of count that become validation: the number nearest to fraction, at least 1, never all."""
    return min(max(1, int(count * fraction + 0.5)), count - 1)
