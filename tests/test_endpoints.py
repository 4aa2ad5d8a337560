"""Names become models behind endpoints: which address, which key, and what is refused before anything is sent."""

from collections.abc import Iterator
from typing import Any

import pytest

from mlx_integrations import assembly, endpoints
from mlx_integrations.cloud.chat import OpenAIChatBackend
from mlx_integrations.errors import ConfigurationError, OfflineError
from mlx_integrations.settings import Settings

KEY = "sk-canary-0123456789"


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("OPENAI_API_KEY", "OPENROUTER_API_KEY", "MY_KEY"):
        monkeypatch.delenv(name, raising=False)
    yield
    assembly.use_settings(Settings())


def _use(offline: bool = False, **endpoints: dict[str, Any]) -> None:
    assembly.use_settings(Settings(endpoints=endpoints, offline=offline))


def test_a_kind_needs_no_configuration() -> None:
    _use()
    backend = endpoints.endpoint_chat_backend("ollama", "llama3.2")
    assert (backend.base_url, backend.model_id) == ("http://localhost:11434/v1", "ollama/llama3.2")
    assert backend.connection.key() is None
    assert not endpoints.endpoint_chat_backend("mlx-lm", "x").capabilities.structured_output


def test_an_endpoint_is_as_its_section_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    _use(
        gpu={
            "base_url": "http://10.0.0.7:8000/v1/",
            "model": "qwen",
            "embedding_model": "bge",
            "embedding_dimensions": 7,
            "api_key_env": "MY_KEY",
            "context_tokens": 99,
            "vision": True,
        }
    )
    backend = endpoints.endpoint_chat_backend("gpu")
    assert (backend.base_url, backend.model_id) == ("http://10.0.0.7:8000/v1", "gpu/qwen")
    assert (backend.capabilities.context_window, backend.capabilities.vision) == (99, True)
    assert backend.connection.key() == KEY
    embedding = endpoints.endpoint_embedding_backend("gpu")
    assert (embedding.model_id, embedding.capabilities.dimensions) == ("gpu/bge", 7)
    assert endpoints.endpoint_connection("gpu").base_url == backend.base_url
    assert KEY not in f"{backend!r}{embedding!r}{backend.connection!r}{vars(backend)!r}{vars(backend.connection)!r}"


def test_a_name_with_a_configured_endpoint_before_it_is_a_model_there() -> None:
    _use(house={"base_url": "http://localhost:1/v1"})
    found = endpoints.named_chat_backend("house/org/model")
    assert isinstance(found, OpenAIChatBackend) and found.model_id == "house/org/model"
    assert not isinstance(endpoints.named_chat_backend("demo"), OpenAIChatBackend)
    assert not isinstance(endpoints.named_chat_backend(None, "mlx"), OpenAIChatBackend)
    assert isinstance(endpoints.named_chat_backend("m", "house"), OpenAIChatBackend)


def test_the_key_of_a_cloud_goes_to_that_cloud_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    _use(other={"kind": "openai", "base_url": "https://proxy.example.com/v1", "model": "m"})
    assert endpoints.endpoint_chat_backend("openai", "m").connection.key() == KEY
    assert endpoints.endpoint_chat_backend("other").connection.key() is None


@pytest.mark.parametrize("value", ["", "  "])
def test_a_cloud_without_its_key_is_refused_at_once(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("OPENROUTER_API_KEY", value)
    _use()
    with pytest.raises(ConfigurationError, match="OPENROUTER_API_KEY is not set") as caught:
        endpoints.endpoint_chat_backend("openrouter", "m")
    assert "api_key_env" in caught.value.hint


def test_what_is_missing_is_named() -> None:
    _use(a={}, b={"base_url": "http://localhost:1/v1"})
    with pytest.raises(ConfigurationError, match="`a` has no address"):
        endpoints.endpoint_chat_backend("a", "m")
    with pytest.raises(ConfigurationError, match="No model of `b` is named") as caught:
        endpoints.endpoint_chat_backend("b")
    assert "`model` in `[endpoints.b]`" in caught.value.hint
    with pytest.raises(ConfigurationError, match="No model of `b` is named") as caught:
        endpoints.endpoint_embedding_backend("b")
    assert "`embedding_model`" in caught.value.hint


@pytest.mark.parametrize(("name", "near"), [("olama", "ollama"), ("hose", "house"), ("mxl", "mlx")])
def test_an_unknown_endpoint_is_answered_with_the_nearest(name: str, near: str) -> None:
    _use(house={"base_url": "http://localhost:1/v1"})
    with pytest.raises(ConfigurationError) as caught:
        endpoints.named_chat_backend("m", name)
    assert caught.value.hint.startswith(f"Did you mean `{near}`?")


def test_offline_lets_only_this_machine_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    _use(offline=True, lan={"base_url": "http://192.168.1.7:1234/v1", "model": "m"})
    for name in ("lan", "openai"):
        for make in (endpoints.endpoint_chat_backend, endpoints.endpoint_embedding_backend):
            with pytest.raises(OfflineError, match="the network is switched off"):
                make(name, "m")
    assert endpoints.endpoint_chat_backend("ollama", "m").base_url == "http://localhost:11434/v1"
