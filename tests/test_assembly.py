"""Names become models, and everything in a process shares them."""

from pathlib import Path

import pytest

from mlx_integrations.assembly import chat_backend, embedding_backend, get_runtime, get_settings
from mlx_integrations.errors import ModelLoadError, ModelNotFoundError
from mlx_integrations.manager.locate import known_models, locate
from mlx_integrations.protocols import ChatBackend, EmbeddingBackend
from mlx_integrations.runtime.engine import Runtime
from tests.tiny_models import build_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_model(tmp_path_factory.mktemp("models") / "small-llama")


def test_one_backend_serves_every_caller_of_a_folder(folder: Path) -> None:
    backend = chat_backend(folder)
    assert isinstance(backend, ChatBackend)
    assert chat_backend(str(folder)) is backend
    assert get_runtime() is get_runtime()


def test_one_embedding_backend_serves_every_caller_of_a_model() -> None:
    private = Runtime()
    backend = embedding_backend("minilm-l6-v2", runtime=private)
    assert isinstance(backend, EmbeddingBackend)
    assert (backend.model_id, backend.capabilities.dimensions) == ("minilm-l6-v2", 384)
    assert embedding_backend(locate("minilm-l6-v2"), runtime=private) is backend
    assert embedding_backend("minilm-l6-v2") is not backend
    private.close()


def test_settings_are_read_once() -> None:
    assert get_settings() is get_settings()


def test_a_private_runtime_has_backends_of_its_own_and_keeps_them(folder: Path) -> None:
    private = Runtime()
    assert chat_backend(folder, runtime=private) is not chat_backend(folder)
    assert chat_backend(folder, runtime=private) is chat_backend(folder, runtime=private)
    private.close()


def test_a_closed_shared_runtime_is_replaced() -> None:
    first = get_runtime()
    first.close()
    assert get_runtime() is not first


def test_a_name_below_a_configured_folder_is_found(folder: Path) -> None:
    assert locate("small-llama", [folder.parent]) == folder
    assert "small-llama" in known_models([folder.parent])


def test_a_repository_in_the_hub_cache_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--some-org--Some-Model-4bit"
    snapshot = repository / "snapshots" / "abc123"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc123")
    assert locate("some-org/Some-Model-4bit") == snapshot
    assert locate("some-org/Some-Model-4bit@abc123") == snapshot
    for misspelt in ("some-org/Some-Model-8bit", "some-model-4bit", "someorg/some-model-4bit"):
        with pytest.raises(ModelNotFoundError) as caught:
            locate(misspelt)
        assert caught.value.suggestions[0] == "some-org/Some-Model-4bit"
        assert "Did you mean" in str(caught.value)


def test_an_unknown_repository_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelNotFoundError, match="mlxi models pull acme/unheard-of"):
        locate("acme/unheard-of")


@pytest.mark.parametrize("name", ["", "Demo", "dmeo", "../demo", "a/b/c"])
def test_other_names_are_not_found(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelNotFoundError) as caught:
        locate(name)
    assert caught.value.model == name


def test_a_path_that_is_no_model_is_a_load_error(tmp_path: Path) -> None:
    for backend in (chat_backend, embedding_backend):
        with pytest.raises(ModelLoadError):
            backend(tmp_path / "nowhere")
