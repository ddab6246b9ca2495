"""KubeRay's own schemas, which are not part of the repository, made as strict as a cluster is with unknown fields."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

_FOLDER = Path(__file__).resolve().parents[3] / "shared" / "kuberay-crds"

needs_crds = pytest.mark.skipif(not _FOLDER.is_dir(), reason="needs ../shared/kuberay-crds")


def validator(kind: str, api_version: str) -> Draft202012Validator:
    """Checks documents of one kind against the schema that its resource definition has for the version.

    A cluster drops fields that the schema does not know, and `kubectl` refuses them; so are they refused here.
    """
    definition = yaml.load((_FOLDER / f"ray.io_{kind.lower()}s.yaml").read_text(), Loader=yaml.CSafeLoader)
    group, _, version = api_version.partition("/")
    assert (definition["spec"]["group"], definition["spec"]["names"]["kind"]) == (group, kind)
    (found,) = [one for one in definition["spec"]["versions"] if one["name"] == version and one["served"]]
    return Draft202012Validator(_closed(found["schema"]["openAPIV3Schema"]))


def problems(document: dict[str, Any], checker: Draft202012Validator) -> list[str]:
    """Where a document breaks its schema, and how."""
    return [f"{error.json_path}: {error.message}" for error in checker.iter_errors(document)]


def _closed(schema: Any) -> Any:  # noqa: ANN401 - any part of a schema
    """The schema with every object that names its fields closed to others."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _closed(one) for name, one in schema.items()}
    names_fields = isinstance(schema.get("properties"), dict) and schema.get("type") == "object"
    if names_fields and not schema.get("x-kubernetes-preserve-unknown-fields"):
        closed.setdefault("additionalProperties", False)
    return closed
