"""The catalogue in the package: that it is right, that it is published as it is, and how its entries are found."""

import json
import re
from dataclasses import fields
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from mlx_integrations.manager.packaged import PACKAGED_MODELS
from mlx_integrations.memory_estimate import CONFIG_KEYS, cache_layout
from mlx_integrations.registry import ModelEntry, ModelRegistry
from mlx_integrations.registry.reading import READABLE_FIELDS, SCHEMA_VERSION, Document, read_document
from mlx_integrations.registry.selection import memory_needs

ROOT = Path(__file__).parent.parent.parent
PUBLISHED = ROOT / "config" / "models-registry.json"
SCHEMA = ROOT / "config" / "models-registry.schema.json"
REGISTRY = ModelRegistry.embedded()

# What the project promised to know from the start.
PROMISED = {
    "llama-3.2-1b": "mlx-community/Llama-3.2-1B-Instruct-4bit",
    "llama-3.2-3b": "mlx-community/Llama-3.2-3B-Instruct-4bit",
    "llama-3.1-8b": "mlx-community/Llama-3.1-8B-Instruct-4bit",
    "deepseek-r1-distill-qwen-1.5b": "mlx-community/DeepSeek-R1-Distill-Qwen-1.5B-4bit",
    "deepseek-r1-distill-qwen-7b": "mlx-community/DeepSeek-R1-Distill-Qwen-7B-4bit",
    "deepseek-r1-distill-qwen-14b": "mlx-community/DeepSeek-R1-Distill-Qwen-14B-4bit",
    "qwen2.5-3b": "mlx-community/Qwen2.5-3B-Instruct-4bit",
    "qwen2.5-7b": "mlx-community/Qwen2.5-7B-Instruct-4bit",
    "qwen2.5-14b": "mlx-community/Qwen2.5-14B-Instruct-4bit",
    "qwen2.5-coder-7b": "mlx-community/Qwen2.5-Coder-7B-Instruct-4bit",
    "phi-3-mini": "mlx-community/Phi-3-mini-4k-instruct-4bit",
    "mistral-7b-v0.3": "mlx-community/Mistral-7B-Instruct-v0.3-4bit",
    "gemma-2-2b": "mlx-community/gemma-2-2b-it-4bit",
    "deepseek-coder-v2-lite": "mlx-community/DeepSeek-Coder-V2-Lite-Instruct-4bit-mlx",
    "minilm-l6-v2": "sentence-transformers/all-MiniLM-L6-v2",
    "minilm-l12-v2": "sentence-transformers/all-MiniLM-L12-v2",
    "mpnet-base-v2": "sentence-transformers/all-mpnet-base-v2",
    "bge-small-en-v1.5": "BAAI/bge-small-en-v1.5",
    "bge-large-en-v1.5": "BAAI/bge-large-en-v1.5",
}


def _content() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    return content


def test_the_published_file_is_the_one_in_the_package() -> None:
    embedded = resources.files("mlx_integrations.registry").joinpath("data", "models.json").read_bytes()
    assert embedded == PUBLISHED.read_bytes()


def test_the_published_file_satisfies_its_schema() -> None:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(_content())


def test_schema_record_and_reader_know_the_same_fields() -> None:
    described = json.loads(SCHEMA.read_text(encoding="utf-8"))["$defs"]["entry"]["properties"]
    assert set(described) == set(READABLE_FIELDS)
    assert set(READABLE_FIELDS) == {field.name for field in fields(ModelEntry)} - {"origin"}
    used = {name for entry in _content()["models"] for name in entry}
    assert used <= set(READABLE_FIELDS), "a field that nobody reads"


def test_every_embedded_entry_is_valid_and_keeps_its_place() -> None:
    document = read_document(_content(), origin="embedded")
    assert document.problems == ()
    assert [entry.id for entry in document.entries] == [item["id"] for item in _content()["models"]]
    assert _content()["schema_version"] == SCHEMA_VERSION
    assert REGISTRY.updated == _content()["updated"]


@pytest.mark.parametrize(("model_id", "repo_id"), PROMISED.items())
def test_the_models_that_were_promised_are_there(model_id: str, repo_id: str) -> None:
    entry = REGISTRY.get(model_id)
    assert entry is not None
    assert entry.repo_id == repo_id


@pytest.mark.parametrize("entry", REGISTRY.entries, ids=lambda entry: entry.id)
def test_an_entry_is_whole_and_says_where_its_facts_come_from(entry: ModelEntry) -> None:
    assert entry.family and entry.publisher and entry.license and entry.quantization
    assert entry.weight_bytes and entry.float32_bytes and entry.parameters
    assert entry.architecture.keys() <= CONFIG_KEYS
    assert {"model", "architecture", "weight_bytes"} <= entry.sources.keys() or entry.id == "demo"
    assert (entry.revision is None) == ("revision" not in entry.sources) or entry.id == "minilm-l6-v2"
    assert (not entry.sha256) == ("sha256" not in entry.sources)
    assert memory_needs(entry) is not None
    if entry.kind == "chat":
        assert entry.context_window
        assert cache_layout(entry.architecture) is not None, "its caches could not be estimated before a download"
        assert "embedding" not in entry.best_for
    else:
        assert entry.dimensions and entry.pooling
        assert entry.best_for == ("embedding",)
        assert all(smaller < entry.dimensions for smaller in entry.smaller_dimensions)


@pytest.mark.parametrize("entry", REGISTRY.entries, ids=lambda entry: entry.id)
def test_figures_of_an_entry_agree_with_each_other(entry: ModelEntry) -> None:
    assert entry.weight_bytes and entry.parameters and entry.quantization
    bits = 8 * entry.weight_bytes / entry.parameters
    assert entry.quantization.bits <= bits <= entry.quantization.bits * 1.2
    assert entry.float32_bytes == 4 * entry.parameters or entry.quantization.mode == "mxfp4"
    if entry.size_bytes:
        assert entry.weight_bytes < entry.size_bytes < entry.weight_bytes * 1.05
    if entry.active_parameters:
        assert entry.active_parameters < entry.parameters


def test_what_an_entry_replaces_exists() -> None:
    for entry in REGISTRY.entries:
        for old in entry.replaces:
            found = REGISTRY.get(old)
            assert found is not None and found.id == old
            assert (found.released or "") < (entry.released or "")


def test_no_two_entries_share_a_name() -> None:
    taken: dict[str, str] = {}
    for entry in REGISTRY.entries:
        for name in {name.lower() for name in entry.names}:
            assert taken.setdefault(name, entry.id) == entry.id


def test_the_packaged_model_is_described_as_its_package_is() -> None:
    for packaged in PACKAGED_MODELS:
        entry = REGISTRY.get(packaged.name)
        assert entry is not None
        assert entry.repo_id == packaged.repo_id
        assert entry.sha256["model.safetensors"] == packaged.sha256
        assert entry.install_command == packaged.install_command


def test_the_demo_is_described_as_its_files_are() -> None:
    entry = REGISTRY.get("demo")
    assert entry is not None
    folder = ROOT / "mlx_integrations" / "demo" / "model"
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert entry.architecture == {key: config[key] for key in entry.architecture}
    assert entry.context_window == config["max_position_embeddings"]
    header = int.from_bytes((folder / "model.safetensors").read_bytes()[:8], "little")
    assert entry.weight_bytes == (folder / "model.safetensors").stat().st_size - 8 - header


@pytest.mark.parametrize(
    "name",
    [
        "llama-3.2-3b",
        "Llama-3.2-3B",
        " LLAMA-3.2-3b ",
        "Llama-3.2-3B-Instruct-4bit",
        "mlx-community/Llama-3.2-3B-Instruct-4bit",
        "MLX-Community/llama-3.2-3b-instruct-4bit",
        "llama-3.2-3b-instruct",
    ],
)
def test_a_model_is_found_by_any_of_its_names(name: str) -> None:
    entry = REGISTRY.get(name)
    assert entry is not None and entry.id == "llama-3.2-3b"


@pytest.mark.parametrize("name", ["", "llama", "llama-3.2-3", "mlx-community/"])
def test_half_a_name_finds_nothing(name: str) -> None:
    assert REGISTRY.get(name) is None


def test_a_mistyped_name_is_answered_with_likely_ones() -> None:
    assert REGISTRY.suggest("llama-3.2-3B-instruct-4bits")[0] == "llama-3.2-3b"
    assert "qwen3-8b" in REGISTRY.suggest("qwen-3-8b")
    assert REGISTRY.suggest("zzzzzzzzzz") == ()
    assert len(REGISTRY.suggest("qwen")) <= 3


def test_a_search_wants_every_word() -> None:
    assert {entry.id for entry in REGISTRY.search("qwen coder")} == {"qwen2.5-coder-7b", "qwen3-coder-30b-a3b"}
    assert {entry.family for entry in REGISTRY.search("META")} == {"llama"}
    assert all(entry.kind == "embedding" for entry in REGISTRY.search(use="embedding"))
    assert [entry.id for entry in REGISTRY.search("bge", use="embedding")] == ["bge-small-en-v1.5", "bge-large-en-v1.5"]
    assert REGISTRY.search("nothing like it") == []
    assert len(REGISTRY.search()) == len(REGISTRY.entries)


def test_a_successor_is_known() -> None:
    old = REGISTRY.get("qwen2.5-7b")
    assert old is not None
    successor = REGISTRY.replacement(old)
    assert successor is not None and successor.id == "qwen3-8b"
    assert REGISTRY.replacement(successor) is None


def entry(model_id: str, **values: Any) -> ModelEntry:
    return ModelEntry(id=model_id, name=model_id, kind="chat", **values)


def test_an_id_wins_over_an_alias_and_a_stronger_list_over_a_weaker() -> None:
    registry = ModelRegistry(
        entries=(
            entry("one", aliases=("two", "shared")),
            entry("two", aliases=("one",)),
            entry("three", aliases=("shared",), origin="user"),
            entry("four", aliases=("shared",), origin="remote"),
        )
    )
    found = {name: registry.get(name) for name in ("one", "two", "shared")}
    assert {name: one.id for name, one in found.items() if one} == {"one": "one", "two": "two", "shared": "three"}


def test_a_list_that_is_merged_replaces_whole_entries_and_adds_new_ones() -> None:
    base = ModelRegistry(entries=(entry("one", license="MIT"), entry("two")), updated="2026-01-01")
    over = Document(entries=(entry("one", family="new"), entry("three")), updated="2026-02-01")
    merged = base.merged(over, source="remote")
    assert [one.id for one in merged.entries] == ["one", "two", "three"]
    assert merged.entries[0] == entry("one", family="new"), "nothing of the old entry is left"
    assert (merged.updated, merged.source) == ("2026-02-01", "embedded, remote")
    assert base.get("three") is None


def test_deprecated_models_are_found_by_name_and_not_by_searching() -> None:
    registry = ModelRegistry(entries=(entry("old", deprecated="Use new."), entry("new", replaces=("old",))))
    assert registry.get("old") is not None
    assert [one.id for one in registry.search()] == ["new"]
    assert [one.id for one in registry.search(include_deprecated=True)] == ["old", "new"]


def test_labels_of_quantisation_are_short() -> None:
    labels = {one.quantization.label for one in REGISTRY.entries if one.quantization}
    assert labels == {"4-bit", "mxfp4", "16-bit", "32-bit"}
    assert all(re.fullmatch(r"[0-9a-z-]+", label) for label in labels)
