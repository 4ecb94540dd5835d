"""Networks of timm and torchvision by name: timm:NAME and torchvision:NAME."""

import difflib
import warnings
from typing import TYPE_CHECKING, Any

from mobileone_core.errors import InputError, reason_of, require

if TYPE_CHECKING:
    from torch import nn

LIBRARIES = ("timm", "torchvision")


def split_name(network: str) -> tuple[str, str]:
    """The library and the name in it of timm:NAME or torchvision:NAME; two empty texts for any other network."""
    library, _, name = network.partition(":")
    return (library, name) if library in LIBRARIES and name else ("", "")


def require_listed(field: str, network: str) -> None:
    """Raise InputError, which names the field, unless the library of timm:NAME or torchvision:NAME lists NAME."""
    library, name = split_name(network)
    try:
        if library == "timm":
            import timm

            names = timm.list_models()
        else:
            from torchvision import models

            names = models.list_models(module=models)  # classifiers alone: others download a backbone
    except ImportError as error:
        raise InputError(f"{field}: {network} needs {library}: pip install {library}") from error
    close = "".join(f"; did you mean {library}:{item}?" for item in difflib.get_close_matches(name, names, 1))
    is_listed = name in names or (library == "timm" and timm.is_model(name))
    require(is_listed, field, network, f"a network that {library} lists{close}")


def build_classifier(
    field: str, network: str, num_classes: int, channels: int = 3, /, image_size: int = 0, **options: Any
) -> "nn.Module":
    """Build a classifier timm:NAME or torchvision:NAME with random weights; nothing is downloaded.

    timm's networks that have one image size are built for image_size, in pixels; options are further arguments. Raises
    InputError, which names the field, if the library is not installed, lacks the network, or cannot build it so.
    """
    require_listed(field, network)
    library, name = split_name(network)
    with warnings.catch_warnings(action="ignore"):  # about initial values
        try:
            if library == "timm":
                import timm

                config = timm.get_pretrained_cfg(name)
                if image_size and config and config.fixed_input_size:
                    options["img_size"] = image_size
                return timm.create_model(name, pretrained=False, num_classes=num_classes, in_chans=channels, **options)
            from torchvision import models

            return models.get_model(name, weights=None, num_classes=num_classes, **options)  # type: ignore[no-any-return]
        except Exception as error:  # each of a thousand constructors refuses in its own way
            raise InputError(f"{field}: {network} cannot be built: {reason_of(error, 200)}") from error
