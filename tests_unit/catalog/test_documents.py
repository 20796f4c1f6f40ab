"""Editors check a catalog against the published schema, so it must say what the package itself says."""

from __future__ import annotations

import pytest

from pytest_mlcc.catalog.documents import DOCUMENTS, EntryDocument, json_schema


@pytest.mark.parametrize("kind", sorted(DOCUMENTS))
def test_every_kind_of_file_has_a_schema_with_the_files_own_keys(kind: str) -> None:
    schema = json_schema(kind)
    assert schema["$schema"].endswith("2020-12/schema")
    assert schema["additionalProperties"] is False
    assert "$schema" in schema["properties"]


def test_the_schema_of_an_entry_names_its_rules() -> None:
    entry = json_schema("catalog")["$defs"]["EntryDocument"]
    assert set(entry["required"]) == {"id", "tier", "track", "args", "lifecycle", "timeout"}
    assert set(entry["properties"]) - set(entry["required"]) == {"tuneTimeout", "tuneConfig", "driver"}
    assert entry["properties"]["timeout"]["minimum"] == 60
    assert "default" not in entry["properties"]["tuneTimeout"]
    assert entry["then"] == {"required": ["tuneConfig"]}


def test_keys_are_written_as_the_files_write_them() -> None:
    names = {field.alias for field in EntryDocument.model_fields.values()}
    assert {"tuneTimeout", "tuneConfig"} <= names
