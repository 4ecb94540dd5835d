"""A network to a verified package: converted, read back, held against the network, and only then in its place."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mobileone_core.coreml.convert import convert, save
from mobileone_core.coreml.options import Options
from mobileone_core.coreml.package import package_bytes, package_hash, part_hashes, write_package
from mobileone_core.coreml.program import read_program
from mobileone_core.coreml.verify import Verification, int8_network, verify
from mobileone_core.model.network import ExportNetwork

MANIFEST = "mobileone.json"  # inside the package, next to Core ML's Manifest.json


@dataclass(frozen=True)
class Exported:
    """hash names the model (package_hash); size in bytes; network has the weights of the package."""

    verification: Verification
    hash: str
    size: int
    network: ExportNetwork


def export_package(  # noqa: PLR0913, PLR0917
    network: ExportNetwork,
    output: Path,
    options: Options,
    metadata: Mapping[str, str],
    proceed: Callable[[], None] = lambda: None,
    interface: Mapping[str, Any] | None = None,
) -> Exported:
    """Convert the deployed network and verify it; output appears whole, and only if it is right.

    metadata: texts for the model's metadata and the manifest. interface: further entries of the manifest, as save
    takes them. proceed is called before the package takes its place and may raise: an interrupt that a library
    swallowed. Raises InputError, NotVerifiedError among them.
    """

    def write(aside: Path) -> Verification:
        save(convert(network, network.spec.in_channels, options), aside, metadata, interface)
        verification = verify(aside, network, options)
        content = {"hash": package_hash(aside), "parts": part_hashes(aside), "metadata": dict(metadata)}
        text = json.dumps({**content, "verified": asdict(verification), **(interface or {})}, indent=2)
        (aside / MANIFEST).write_text(text + "\n", encoding="utf-8")
        proceed()
        return verification

    verification = write_package(output, write)
    exported = int8_network(read_program(output), network) if options.int8 else network
    return Exported(verification, package_hash(output), package_bytes(output), exported)
