"""The description that travels with a cell's weights: in its run as model.json, and in the weight file itself."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mobileone_core.data.classes import shown_names
from mobileone_core.data.preprocessing import Preprocessing
from mobileone_core.data.spec import DataSpec
from mobileone_core.fields import as_tuples
from mobileone_core.training.cell import CellSpec

CARD, EXAMPLES = "model.json", "examples.png"  # artifacts of a run, the second of detectors and segmenters


@dataclass(frozen=True)
class ModelCard:
    """The cell, the preprocessing of its evaluation, its class names in the order of the outputs, and its data's path.

    data_root is the path as given to the study; empty for embedded data. class_names is empty if they are not known.
    """

    cell: CellSpec
    preprocessing: Preprocessing
    class_names: tuple[str, ...] = ()
    data_root: str = ""

    @property
    def data(self) -> str:
        """Title of the data set: its name; for an image folder folder:NAME with the start of its fingerprint."""
        return data_title(self.cell.data.name, self.data_root, self.cell.data.fingerprint)

    def content(self) -> dict[str, Any]:
        """The card as JSON; read takes it back."""
        shown = self.preprocessing
        return {
            "key": self.cell.key,
            "data": self.data,
            "data_root": self.data_root,
            "fingerprint": self.cell.data.fingerprint,
            "class_names": list(self.class_names),
            "preprocessing": asdict(shown) | {"color": shown.color, "resize": shown.resize},
            "recipe": asdict(self.cell.recipe),
            "cell": self.cell.to_json(),
        }

    def metadata(self) -> dict[str, str]:
        """The card as texts by name, for the metadata of a safetensors file."""
        texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in self.content().items()}
        return {"format": "pt", **texts}

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> "ModelCard":
        """Read what content or metadata returned. Raises InputError if a newer version wrote the cell."""
        values = [content[name] for name in ("preprocessing", "class_names")]
        shown, names = (as_tuples(json.loads(item) if isinstance(item, str) else item) for item in values)
        preprocessing = Preprocessing(**{name: shown[name] for name in Preprocessing.__dataclass_fields__})
        return cls(CellSpec.from_json(content["cell"]), preprocessing, names, content["data_root"])


def model_card(cell: CellSpec, data_root: Path | None) -> ModelCard:
    """The card of a cell; the class names of an image folder are read below data_root."""
    names = shown_names(cell.data, data_root)
    return ModelCard(cell, Preprocessing.of(cell.data), names, "" if data_root is None else str(data_root))


def read_card(weights: Path) -> ModelCard | None:
    """The card inside a weight file; None if the file has none."""
    from safetensors import SafetensorError, safe_open

    from mobileone_core.model.checkpoints import is_safetensors

    if not weights.is_file() or not is_safetensors(weights):
        return None
    try:
        with safe_open(weights, "numpy") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError):  # reading the weights says what is wrong
        return None
    return ModelCard.read(metadata) if {"cell", "preprocessing"} <= metadata.keys() else None


def folder_tags(data: DataSpec, root: Path | None) -> dict[str, str]:
    """Tags of a run on an image folder: its title and its path as given; none for a named data set."""
    if not data.fingerprint:
        return {}
    return {"data_set": data_title(data.name, str(root or ""), data.fingerprint), "data_root": str(root or "")}


def data_title(name: str, root: str, fingerprint: str) -> str:
    """Title of a data set: its name; for an image folder folder:NAME with the first digits of its fingerprint."""
    folder = f":{Path(root).resolve().name}" if root else ""
    return f"{name}{folder} {fingerprint[:6]}" if fingerprint else name
