"""Catalogues that somebody else wrote: whatever is in them, nothing raises and nothing invalid gets in."""

import copy
import json
import os
import unicodedata
from importlib import resources
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlx_integrations.memory_estimate import CONFIG_KEYS
from mlx_integrations.registry import ModelEntry, ModelRegistry
from mlx_integrations.registry.entry import ModelKind, Use
from mlx_integrations.registry.reading import MAX_ENTRIES, READABLE_FIELDS, EntryProblem, read_document, read_entry
from mlx_integrations.registry.selection import memory_needs, recommend
from mlx_integrations.types import Machine

EXAMPLES = int(os.environ.get("MLXI_FUZZ_EXAMPLES", "300"))
CONTENT: dict[str, Any] = json.loads(
    resources.files("mlx_integrations.registry").joinpath("data", "models.json").read_text(encoding="utf-8")
)
SCHEMA = json.loads((Path(__file__).parent.parent.parent / "config" / "models-registry.schema.json").read_text("utf-8"))
VALIDATOR = jsonschema.Draft202012Validator({**SCHEMA["$defs"]["entry"], "$defs": SCHEMA["$defs"]})
MACHINE = Machine(backend="metal", device_name="Apple M2 Pro", memory_bytes=2**34, usable_bytes=2**33, cores=12)
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


def _assert_valid(entry: ModelEntry) -> None:
    """Checked by the published schema and by plain words, not by the reader's own rules."""
    plain: dict[str, Any] = {}
    for name in READABLE_FIELDS:
        value = getattr(entry, name)
        if value not in (None, (), {}, ""):
            plain[name] = list(value) if isinstance(value, tuple) else value
    if entry.quantization:
        quantization = {"bits": entry.quantization.bits, "group_size": entry.quantization.group_size}
        plain["quantization"] = {key: item for key, item in quantization.items() if item is not None}
    assert VALIDATOR.is_valid(plain), list(VALIDATOR.iter_errors(plain))
    assert entry.kind in get_args(ModelKind)
    assert set(entry.best_for) <= set(get_args(Use))
    assert entry.architecture.keys() <= CONFIG_KEYS
    for shown in (entry.id, entry.name, *entry.aliases, entry.deprecated, entry.repo_id or "", entry.license or ""):
        assert not any(unicodedata.category(character).startswith("C") for character in shown)
    json.dumps(plain, allow_nan=False).encode("utf-8")


_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=30),
    st.sampled_from(["chat", "embedding", "code", "../x", "\x1b[0m", "a" * 500, "mlx-community/x", "0" * 40, "\ud800"]),
)
_ANYTHING = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=8,
)
_MUTATION = st.tuples(
    st.integers(0, 10**6),
    st.one_of(st.sampled_from(READABLE_FIELDS), st.text(max_size=10)),
    st.sampled_from(["set", "set", "set", "delete", "inside", "duplicate", "replace entry"]),
    _ANYTHING,
)


def _mutate(models: list[Any], mutation: tuple[int, str, str, Any]) -> None:
    position, field, action, value = mutation
    index = position % len(models)
    entry = models[index]
    if action == "replace entry":
        models[index] = value
    elif action == "duplicate":
        models.append(copy.deepcopy(entry))
    elif not isinstance(entry, dict):
        return
    elif action == "delete":
        entry.pop(field, None)
    elif action == "inside" and isinstance(entry.get(field), dict):
        keys = list(entry[field]) or [field]
        entry[field][keys[position % len(keys)]] = value
    elif action == "inside" and isinstance(entry.get(field), list):
        entry[field].append(value)
    else:
        entry[field] = value


@settings(
    max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], deadline=None
)
@given(st.integers(0, 30), st.lists(_MUTATION, min_size=1, max_size=8), st.one_of(st.just(1), _SCALARS))
def test_no_mutated_catalogue_raises_or_lets_anything_invalid_in(
    start: int, mutations: list[tuple[int, str, str, Any]], version: Any
) -> None:
    models = copy.deepcopy(CONTENT["models"][start : start + 5])
    for mutation in mutations:
        _mutate(models, mutation)
    document = read_document({"schema_version": version, "models": models}, origin="remote")
    for entry in document.entries:
        _assert_valid(entry)
    # What is done with entries afterwards must not fail on them either.
    registry = ModelRegistry.embedded().merged(document, source="remote")
    for entry in document.entries:
        memory_needs(entry)
        assert registry.get(entry.id) is not None
    recommend(registry, MACHINE, use="chat")
    registry.suggest("qwen")


@settings(max_examples=EXAMPLES, deadline=None)
@given(_ANYTHING)
def test_no_value_at_all_makes_the_reader_raise(value: Any) -> None:
    read_document(value, origin="remote")
    read_document({"models": value}, origin="remote")
    read_document({"models": [value]}, origin="remote")
