"""Every error that leaves a model is this package's and LangChain's at once."""

import inspect
import pickle
from pathlib import Path
from typing import Any

import pytest
from langchain_core import exceptions

from mlx_integrations import assembly, errors
from mlx_integrations.langchain import ChatMLX, MLXEmbeddings
from mlx_integrations.langchain import errors as twins
from mlx_integrations.langchain.errors import as_langchain_error
from mlx_integrations.settings import Settings
from tests.langchain.fakes import fake_model

EXAMPLES: list[tuple[errors.MLXIntegrationsError, type[Exception]]] = [
    (errors.ModelNotFoundError("m", model="x", suggestions=["y"]), exceptions.ModelNotFoundError),
    (
        errors.EmbeddingMismatchError("m", store="s", stored={"model": "a"}, current={"model": "b"}, fields=["model"]),
        exceptions.LangChainException,
    ),
    (errors.SidecarError("m", path="x"), exceptions.LangChainException),
    (errors.RegistryError("m", path="x"), exceptions.LangChainException),
    (errors.InvalidRequestError("m", field="x"), exceptions.ModelInvalidRequestError),
    (errors.UnsupportedContentError("m", kind="image"), exceptions.ModelInvalidRequestError),
    (errors.UnknownToolError("m", tool_name="x", offered=["y"]), exceptions.ModelInvalidRequestError),
    (errors.UnsupportedSchemaError("m", keywords=["not"]), exceptions.ModelInvalidRequestError),
    (errors.ContextOverflowError("m", prompt_tokens=9, limit_tokens=5), exceptions.ContextOverflowError),
    (errors.MLXUnavailableError("m"), exceptions.ModelError),
    (errors.ModelLoadError("m", model_path="x"), exceptions.ModelError),
    (errors.UnsupportedArchitectureError("m", model_path="x", model_type="y"), exceptions.ModelError),
    (errors.InsufficientMemoryError("m", needed_bytes=3, available_bytes=2, budget_bytes=1), exceptions.ModelError),
    (errors.ModelInUseError("m"), exceptions.ModelError),
    (errors.QueueFullError("m"), exceptions.ModelRateLimitError),
    (errors.GenerationError("m", partial_text="x", hint="Try again."), exceptions.ModelAPIError),
    (errors.RuntimeClosedError("m"), exceptions.ModelError),
    (errors.PrivacyError("m", because=("it was said to be private",)), exceptions.ModelInvalidRequestError),
    (errors.RemoteAuthenticationError("m", endpoint="x", status=401), exceptions.ModelAuthenticationError),
    (errors.RemoteQuotaError("m", endpoint="x", status=402), exceptions.ModelAuthenticationError),
    (errors.RemoteRateLimitError("m", endpoint="x", retry_after_seconds=3), exceptions.ModelRateLimitError),
    (errors.RemoteConnectionError("m", endpoint="x"), exceptions.ModelConnectionError),
    (errors.RemoteTimeoutError("m", endpoint="x"), exceptions.ModelTimeoutError),
    (errors.RemoteServerError("m", endpoint="x", status=503), exceptions.ModelAPIError),
    (errors.RemoteStreamError("m", endpoint="x", partial_text="y"), exceptions.ModelAPIError),
    (errors.RemoteModelNotFoundError("m", endpoint="x", status=404), exceptions.ModelNotFoundError),
    (errors.RemoteRequestError("m", endpoint="x", status=400), exceptions.ModelInvalidRequestError),
    (errors.RemoteContentPolicyError("m", endpoint="x"), exceptions.ModelInvalidRequestError),
    (errors.RouterError("m", attempts=[("x", "it failed")]), exceptions.ModelAPIError),
    (errors.EmbeddingSpaceError("m", wanted={"name": "x"}), exceptions.ModelAPIError),
    (errors.PartialResponseError("m", partial_text="y", candidate="x"), exceptions.ModelAPIError),
    (errors.TruncatedOutputError("m", partial_text="x"), exceptions.OutputParserException),
    (errors.InvalidOutputError("m", partial_text="x"), exceptions.OutputParserException),
]
IDS = [type(error).__name__ for error, _ in EXAMPLES]


@pytest.mark.parametrize(("error", "langchain_class"), EXAMPLES, ids=IDS)
def test_an_error_becomes_langchains_and_stays_ours(
    error: errors.MLXIntegrationsError, langchain_class: type[Exception]
) -> None:
    twin = as_langchain_error(error)
    assert isinstance(twin, type(error)) and isinstance(twin, langchain_class)
    assert type(twin).__name__ == type(error).__name__
    assert str(twin) == str(error)
    assert twin.__dict__ == error.__dict__
    assert twin.is_retryable == error.is_retryable
    assert as_langchain_error(twin) is twin


@pytest.mark.parametrize("error", [error for error, _ in EXAMPLES], ids=IDS)
def test_a_twin_survives_pickling(error: errors.MLXIntegrationsError) -> None:
    twin = as_langchain_error(error)
    again = pickle.loads(pickle.dumps(twin))
    assert type(again) is type(twin)
    assert (str(again), again.__dict__) == (str(twin), twin.__dict__)


def test_every_error_that_a_call_may_raise_has_a_twin() -> None:
    # Calls neither download nor convert nor migrate.
    others = (
        errors.MissingExtraError,
        errors.HubError,
        errors.ConversionError,
        errors.UnsupportedFormatError,
        errors.MigrationError,
        errors.ClusterError,
    )
    leaves = {
        item
        for _, item in inspect.getmembers(errors, inspect.isclass)
        if issubclass(item, errors.MLXIntegrationsError) and not issubclass(item, others)
    }
    bases: set[type[errors.MLXIntegrationsError]] = {
        errors.MLXIntegrationsError,
        errors.ConfigurationError,
        errors.RequestError,
    }
    bases |= {errors.LocalBackendError, errors.RemoteError, errors.OutputError}
    assert leaves - bases == {type(error) for error, _ in EXAMPLES}
    assert {name for name in twins.__all__ if name.endswith("Error")} == {item.__name__ for item in leaves - bases}


def test_an_error_of_another_room_passes_unchanged() -> None:
    class OtherError(errors.MLXIntegrationsError):
        pass

    error = OtherError("m")
    with pytest.raises(OtherError) as caught:
        fake_model(error)[0].invoke("Hi")
    assert caught.value is error


@pytest.mark.parametrize("call", ["invoke", "stream", "ainvoke", "astream", "bound", "batch"])
async def test_a_prompt_that_is_too_long_is_langchains_overflow_on_every_path(call: str) -> None:
    cause = errors.ContextOverflowError("too long", prompt_tokens=9, limit_tokens=5)
    model, _ = fake_model(cause)
    with pytest.raises(exceptions.ContextOverflowError) as caught:
        await _call(model, call)
    assert isinstance(caught.value, errors.ContextOverflowError)
    assert (caught.value.prompt_tokens, caught.value.limit_tokens) == (9, 5)
    assert caught.value.__cause__ is cause


async def _call(model: Any, call: str) -> None:
    if call == "invoke":
        model.invoke("Hi")
    elif call == "stream":
        list(model.stream("Hi"))
    elif call == "ainvoke":
        await model.ainvoke("Hi")
    elif call == "astream":
        [_ async for _ in model.astream("Hi")]
    elif call == "bound":
        model.bind(temperature=0).invoke("Hi")
    else:
        model.batch(["Hi", "Ho"])


@pytest.mark.parametrize("own", ["[[models]]\n", "[[models"])
def test_a_mistake_in_the_users_list_of_models_is_an_error_of_both(
    own: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLXI_CONFIG", str(tmp_path / "config.toml"))
    (tmp_path / "config.toml").write_text("")
    (tmp_path / "models.toml").write_text(own)
    before = assembly.get_settings()
    assembly.use_settings(Settings())
    try:
        for model in (ChatMLX(model="demo"), MLXEmbeddings(model="demo")):
            with pytest.raises(exceptions.LangChainException, match=r"models\.toml") as caught:
                model.invoke("Hi") if isinstance(model, ChatMLX) else model.embed_query("Hi")
            assert isinstance(caught.value, errors.RegistryError)
    finally:
        assembly.use_settings(before)


def test_no_messages_are_the_backends_error() -> None:
    with pytest.raises(errors.InvalidRequestError) as caught:
        fake_model()[0].invoke([])
    assert caught.value.field == "messages"


def test_retries_ask_whether_an_error_is_retryable() -> None:
    full, _ = fake_model(errors.QueueFullError("busy"), "at last")
    assert full.with_retry(retry_if_exception_type=(exceptions.ModelRateLimitError,)).invoke("Hi").content == "at last"
