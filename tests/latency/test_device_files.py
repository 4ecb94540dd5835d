"""Manifests of exported models: both names of their metadata are read."""

import json

import pytest

from mobileone_core.errors import InputError
from mobileone_core.latency.device import ExportedModel
from mobileone_core.latency.device_files import find_manifest, read_manifest


@pytest.mark.parametrize("key", ["metadata", "told"])
def test_a_manifest_names_the_model(tmp_path, key):
    """Exports of the first versions wrote told where metadata stands."""
    path = tmp_path / "mobileone.json"
    metadata = {"mobileone.variant": "s0", "mobileone.precision": "float32"}
    path.write_text(json.dumps({"hash": "ab" * 32, "precision": "float16", "input": "tensor", key: metadata}))
    expected = ExportedModel("mobileone_s0", "ab" * 32, variant="s0", precision="float16", input="tensor")
    assert read_manifest(path, "another title") == expected


def test_a_title_names_a_model_without_variant(tmp_path):
    path = tmp_path / "mobileone.json"
    path.write_text(json.dumps({"hash": "ab" * 32}))
    assert read_manifest(path, "my network").model == "my network"
    with pytest.raises(InputError, match=r"manifest: 'mobileone\.json' is not allowed; an object with model, title"):
        read_manifest(path)


def test_a_manifest_is_in_the_package_or_next_to_it(tmp_path):
    package = tmp_path / "a.mlpackage"
    package.mkdir()
    (package / "Manifest.json").write_text("{}")
    assert find_manifest(package) is None
    (tmp_path / "a.json").write_text("{}")
    assert find_manifest(package) == tmp_path / "a.json"
    (package / "mobileone.json").write_text("{}")
    assert find_manifest(package) == package / "mobileone.json"
