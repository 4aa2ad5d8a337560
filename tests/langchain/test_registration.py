"""`init_chat_model("mlx:...")`, lazy names, and what is said when LangChain is not there."""

import subprocess
import sys
from types import ModuleType

import pytest
from langchain.agents import create_agent
from langchain.chat_models import base, init_chat_model
from langchain.embeddings import base as embeddings_base
from langchain.embeddings import init_embeddings
from langchain_core.load import dumpd, load

import mlx_integrations.langchain
from mlx_integrations.errors import ConfigurationError
from mlx_integrations.langchain import ChatMLX, MLXEmbeddings, register_with_langchain


def test_a_model_can_be_named_after_registering() -> None:
    register_with_langchain()
    register_with_langchain()
    model = init_chat_model("mlx:demo", temperature=0, max_tokens=5, timeout=30, max_retries=1)
    assert model == ChatMLX(model="demo", temperature=0, max_tokens=5)
    assert init_chat_model("demo", model_provider="mlx") == ChatMLX(model="demo")
    assert create_agent("mlx:demo") is not None


def test_a_model_can_be_chosen_at_run_time_after_registering() -> None:
    register_with_langchain()
    configurable = init_chat_model(configurable_fields=("model", "temperature"), model_provider="mlx")
    chosen = configurable._model({"configurable": {"model": "demo", "temperature": 0.5}})
    assert chosen == ChatMLX(model="demo", temperature=0.5)


def test_an_embedding_model_can_be_named_after_registering() -> None:
    register_with_langchain()
    model = init_embeddings("mlx:minilm-l6-v2", dimensions=64, max_retries=1)
    assert model == MLXEmbeddings(model="minilm-l6-v2", dimensions=64)
    assert init_embeddings("minilm-l6-v2", provider="mlx") == MLXEmbeddings(model="minilm-l6-v2")


@pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")
def test_a_registered_model_is_one_of_all_that_can_be_loaded() -> None:
    register_with_langchain()
    for model in (ChatMLX(model="demo", temperature=0.5), MLXEmbeddings(model="minilm-l6-v2", dimensions=9)):
        assert load(dumpd(model), allowed_objects="all", valid_namespaces=["mlx_integrations"]) == model


@pytest.mark.parametrize("module", [base, embeddings_base])
@pytest.mark.parametrize("name", ["_BUILTIN_PROVIDERS", "_call"])
def test_a_table_that_has_moved_is_an_error_with_a_way_out(
    module: ModuleType, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(module, name)
    with pytest.raises(ConfigurationError, match="Pass the model itself"):
        register_with_langchain()


def _in_a_new_interpreter(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_public_names_are_the_listed_ones() -> None:
    assert dir(mlx_integrations.langchain) == sorted(mlx_integrations.langchain.__all__)
    for name in mlx_integrations.langchain.__all__:
        assert getattr(mlx_integrations.langchain, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute `ChatLMX`"):
        _ = mlx_integrations.langchain.ChatLMX


def test_importing_the_room_imports_no_langchain() -> None:
    code = "import sys, mlx_integrations.langchain; print('langchain_core' in sys.modules)"
    assert _in_a_new_interpreter(code) == "False"


@pytest.mark.parametrize("name", ["ChatMLX", "MLXEmbeddings", "context_budget"])
def test_the_model_needs_neither_langchain_nor_mlx(name: str) -> None:
    code = (
        f"import sys; from mlx_integrations.langchain import {name}\n"
        "print([name for name in ('langchain', 'langgraph', 'mlx', 'mlx_lm', 'transformers') if name in sys.modules])"
    )
    assert _in_a_new_interpreter(code) == "[]"


@pytest.mark.parametrize(
    ("missing", "name"),
    [
        ("langchain_core", "ChatMLX"),
        ("langchain_core", "MLXEmbeddings"),
        ("langchain", "summarization_middleware"),
    ],
)
def test_a_missing_extra_is_named_with_its_install_line(missing: str, name: str) -> None:
    code = (
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] == {missing!r}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        "import mlx_integrations.langchain as room\n"
        "try:\n"
        f"    room.{name}\n"
        "except ImportError as error:\n"
        "    print(type(error).__name__, error.extra, error.hint)\n"
    )
    said = _in_a_new_interpreter(code)
    assert said == 'MissingExtraError langchain Install it with: pip install "mlx-integrations[langchain]"'
