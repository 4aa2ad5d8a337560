"""Catalogues that somebody else wrote: what is not right is left out, and named."""

from typing import Any

import pytest

from mlx_integrations.registry import ModelEntry
from mlx_integrations.registry.reading import MAX_ENTRIES, EntryProblem, read_document, read_entry

SMALL = {"id": "one", "name": "One", "kind": "chat"}


def problem(**values: Any) -> EntryProblem:
    found = read_entry({**SMALL, **values}, origin="remote")
    assert isinstance(found, EntryProblem)
    return found


def test_an_entry_needs_no_more_than_id_name_and_kind() -> None:
    assert read_entry(SMALL, origin="remote") == ModelEntry(id="one", name="One", kind="chat", origin="remote")


@pytest.mark.parametrize("field", SMALL)
def test_what_is_missing_is_named(field: str) -> None:
    found = problem(**{field: None})
    assert (found.field, found.reason) == (field, "it is missing")


def test_unknown_fields_are_ignored() -> None:
    assert read_entry({**SMALL, "colour": "green", "origin": "embedded"}, origin="user") == ModelEntry(
        id="one", name="One", kind="chat", origin="user"
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", "One"),
        ("id", "../one"),
        ("id", "a" * 97),
        ("id", "one\n"),
        ("kind", "vision"),
        ("name", "x" * 121),
        ("name", "\x1b[31mred"),
        ("name", "right\u202eleft"),
        ("name", "half \ud800"),
        ("name", "two\nlines"),
        ("repo_id", "no-slash"),
        ("repo_id", "a/b/c"),
        ("repo_id", "../../etc/passwd"),
        ("repo_id", "a/b--c"),
        ("repo_id", "https://example.org/x"),
        ("revision", "main"),
        ("revision", "A" * 40),
        ("parameters", 0),
        ("parameters", -1),
        ("parameters", 1.5),
        ("parameters", True),
        ("parameters", "7"),
        ("parameters", float("nan")),
        ("parameters", 10**15),
        ("size_bytes", float("inf")),
        ("size_bytes", 2**51),
        ("tools", "yes"),
        ("tools", 1),
        ("best_for", ["everything"]),
        ("best_for", "chat"),
        ("aliases", ["x"] * 129),
        ("languages", ["english"]),
        ("released", "2024-13"),
        ("released", "2024"),
        ("quantization", 4),
        ("quantization", {"bits": None}),
        ("quantization", {"bits": 4, "mode": "A F"}),
        ("sha256", {"model.safetensors": "abc"}),
        ("sha256", {"../model.safetensors": "a" * 64}),
        ("sha256", {"/model": "a" * 64}),
        ("architecture", ["llama"]),
        ("architecture", {"num_hidden_layers": -1}),
        ("architecture", {"num_hidden_layers": 1e9}),
        ("architecture", {"layer_types": [["deep"]]}),
        ("architecture", {"layer_types": ["x"] * 1001}),
        ("sources", {"model": 1}),
        ("query_prompt", "bell\a"),
    ],
)
def test_a_value_that_its_field_does_not_hold_drops_the_entry_and_says_which(field: str, value: Any) -> None:
    found = problem(**{field: value})
    assert found.field == field
    assert found.reason.startswith("it")


def test_a_repository_that_is_none_is_explained_without_a_pattern() -> None:
    assert "such as `mlx-community/Qwen3-4B-4bit`" in problem(repo_id="no-slash").reason
    assert "a whole commit hash" in problem(revision="main").reason


def test_prompts_may_have_lines() -> None:
    found = read_entry({**SMALL, "query_prompt": "Instruct: find\nQuery:"}, origin="user")
    assert isinstance(found, ModelEntry) and found.query_prompt == "Instruct: find\nQuery:"


def test_only_keys_that_estimates_read_are_kept_of_an_architecture() -> None:
    found = read_entry({**SMALL, "architecture": {"model_type": "llama", "auto_map": {"x": "y"}}}, origin="user")
    assert isinstance(found, ModelEntry) and found.architecture == {"model_type": "llama"}


def test_one_bad_entry_is_dropped_and_the_others_stay() -> None:
    document = read_document({"models": [SMALL, {**SMALL, "id": "two", "kind": "?"}, 7, None]}, origin="remote")
    assert [entry.id for entry in document.entries] == ["one"]
    assert [(one.position, one.entry_id, one.field) for one in document.problems] == [
        (1, "two", "kind"),
        (2, "", ""),
        (3, "", ""),
    ]


def test_of_two_entries_of_one_id_the_last_counts() -> None:
    document = read_document({"models": [SMALL, {**SMALL, "name": "Other"}]}, origin="remote")
    assert [entry.name for entry in document.entries] == ["Other"]


def test_a_list_has_an_end() -> None:
    models = [{**SMALL, "id": f"model-{number}"} for number in range(MAX_ENTRIES + 5)]
    assert len(read_document({"models": models}, origin="remote").entries) == MAX_ENTRIES


@pytest.mark.parametrize(
    "value",
    [None, 7, [], "models", {}, {"models": {}}, {"models": [SMALL], "schema_version": 2}]
    + [{"models": [SMALL], "schema_version": version} for version in ("1", 1.0, True, 0)],
)
def test_what_is_no_catalogue_of_this_version_is_not_read(value: Any) -> None:
    document = read_document(value, origin="remote")
    assert (document.is_readable, document.entries) == (False, ())


def test_a_day_that_is_none_is_no_day() -> None:
    for day in ("today", "2026-13-01", 20261121, "9999-12-31T"):
        assert read_document({"models": [SMALL], "updated": day}, origin="remote").updated == ""
