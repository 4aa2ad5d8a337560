"""Catalogues that somebody damaged, by chance or on purpose: nothing raises, and nothing invalid gets in.

MLXI_FUZZ_EXAMPLES sets how many are tried of each kind.
"""

import copy
import json
import os
import unicodedata
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import jsonschema
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlx_integrations.memory_estimate import CONFIG_KEYS
from mlx_integrations.registry import ModelEntry, ModelRegistry, load_registry
from mlx_integrations.registry.entry import ModelKind, Use
from mlx_integrations.registry.fetching import Fetched
from mlx_integrations.registry.overlay import refresh_state
from mlx_integrations.registry.reading import READABLE_FIELDS, read_document
from mlx_integrations.registry.selection import memory_needs, recommend
from mlx_integrations.types import Machine

EXAMPLES = int(os.environ.get("MLXI_FUZZ_EXAMPLES", "300"))
URL = "https://example.org/models.json"
CONTENT: dict[str, Any] = json.loads(
    resources.files("mlx_integrations.registry").joinpath("data", "models.json").read_text(encoding="utf-8")
)
SCHEMA = json.loads((Path(__file__).parent.parent.parent / "config" / "models-registry.schema.json").read_text("utf-8"))
VALIDATOR = jsonschema.Draft202012Validator({**SCHEMA["$defs"]["entry"], "$defs": SCHEMA["$defs"]})
MACHINE = Machine(backend="metal", device_name="Apple M2 Pro", memory_bytes=2**34, usable_bytes=2**33, cores=12)
FUZZ = settings(
    max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], deadline=None
)


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


_SPLICE = st.tuples(
    st.integers(0, 2**20),
    st.sampled_from(["replace", "insert", "delete", "repeat", "cut"]),
    st.one_of(
        st.binary(max_size=8),
        st.sampled_from(
            [b"NaN", b"-Infinity", b"1e999", b"9" * 5000, b"[" * 500, b"\\ud800", b"\xff", b"\x00", b'"', b"}"]
        ),
    ),
)


def _splice(body: bytes, splice: tuple[int, str, bytes]) -> bytes:
    position, action, piece = splice
    start = position % (len(body) + 1)
    end = min(len(body), start + max(1, len(piece)))
    if action == "replace":
        return body[:start] + piece + body[end:]
    if action == "insert":
        return body[:start] + piece + body[start:]
    if action == "delete":
        return body[:start] + body[end:]
    return body[:start] if action == "cut" else body + body[start:]


@FUZZ
@given(
    st.integers(0, 30),
    st.lists(_MUTATION, max_size=6),
    st.one_of(st.just(1), st.just(1), st.just(1), _SCALARS),
    st.one_of(st.just([]), st.lists(_SPLICE, min_size=1, max_size=3)),
)
def test_no_mutated_file_makes_the_loader_raise_or_lets_anything_invalid_in(
    start: int, mutations: list[tuple[int, str, str, Any]], version: Any, splices: list[tuple[int, str, bytes]]
) -> None:
    models = copy.deepcopy(CONTENT["models"][start : start + 5])
    for mutation in mutations:
        _mutate(models, mutation)
    body = json.dumps({"schema_version": version, "updated": "2027-01-01", "models": models}).encode()
    for splice in splices:
        body = _splice(body, splice)

    def fetch(url: str, etag: str) -> Fetched:
        return Fetched(body=body)

    with TemporaryDirectory() as folder:
        cache_dir = Path(folder)
        registry = load_registry(cache_dir=cache_dir, url=URL, refresh=True, fetch=fetch)
        assert load_registry(cache_dir=cache_dir, url=URL, offline=True) == registry
        remote = [entry for entry in registry.entries if entry.origin == "remote"]
        assert bool(remote) != bool(refresh_state(cache_dir, URL).failure)
    _assert_good(registry)


def _assert_good(registry: ModelRegistry) -> None:
    """Every entry is valid, none of the package's own is lost, and what is done with entries does not fail on them."""
    embedded = ModelRegistry.embedded()
    assert {entry.id for entry in embedded.entries} <= {entry.id for entry in registry.entries}
    for entry in registry.entries:
        if entry.origin == "remote":
            _assert_valid(entry)
            memory_needs(entry)
            assert registry.get(entry.id) is entry
        else:
            assert entry is embedded.get(entry.id)
    recommend(registry, MACHINE, use="chat")
    registry.suggest("qwen")


@FUZZ
@given(_ANYTHING)
def test_no_value_at_all_makes_the_reader_raise(value: Any) -> None:
    read_document(value, origin="remote")
    read_document({"models": value}, origin="remote")
    read_document({"models": [value]}, origin="remote")
