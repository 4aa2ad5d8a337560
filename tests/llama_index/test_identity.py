"""Options, names, copies and what a model says of itself."""

import copy
import json
import pickle
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from llama_index.core import Settings
from llama_index.core.base.llms.types import ChatMessage

import mlx_integrations.llama_index as room
from mlx_integrations.errors import InvalidRequestError, ModelNotFoundError
from mlx_integrations.llama_index import MLXLLM, chat_memory_buffer, context_budget, memory
from mlx_integrations.testing import FakeChatBackend
from mlx_integrations.types import ModelCapabilities, SamplingParams
from tests.langchain.test_options import EVERY_SAMPLING_OPTION, sampled
from tests.llama_index.fakes import fake_llm


def test_every_sampling_option_is_a_field_and_an_option_of_a_call() -> None:
    assert set(EVERY_SAMPLING_OPTION) == {item.name for item in fields(SamplingParams)}
    llm, backend = fake_llm(**EVERY_SAMPLING_OPTION)
    llm.complete("Hi")
    plain, other = fake_llm(temperature=1.0, stop=["STOP"])
    plain.complete("Hi", **EVERY_SAMPLING_OPTION)
    assert backend.requests[0].sampling == other.requests[0].sampling == sampled(EVERY_SAMPLING_OPTION)


def test_other_models_names_are_understood() -> None:
    llm = MLXLLM(model_name="demo", max_new_tokens=3, stop_sequences="END", api_key="x", api_base="y", timeout=3)
    assert (llm.model, llm.max_tokens, llm.stop) == ("demo", 3, ["END"])
    assert MLXLLM("demo").model == MLXLLM(Path("demo")).model == "demo"


@pytest.mark.parametrize(("wrong", "right"), [("temprature", "temperature"), ("max_token", "max_tokens")])
def test_an_unknown_option_is_answered_with_the_right_one(wrong: str, right: str) -> None:
    with pytest.raises(InvalidRequestError, match=f"Did you mean `{right}`"):
        MLXLLM("demo", **{wrong: 1})
    with pytest.raises(InvalidRequestError, match=f"Did you mean `{right}`"):
        fake_llm()[0].complete("Hi", **{wrong: 1})


def test_only_what_a_call_takes_is_suggested_to_a_call() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        fake_llm()[0].complete("Hi", model="other")
    assert "model_name" not in caught.value.hint and "`max_new_tokens`" in caught.value.hint


def test_an_impossible_value_is_refused() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        fake_llm()[0].complete("Hi", temperature="hot")
    assert caught.value.field == "temperature"


def test_no_messages_are_refused() -> None:
    with pytest.raises(InvalidRequestError):
        fake_llm()[0].chat([])


def test_a_model_that_is_not_there_is_named_at_the_first_call() -> None:
    llm = MLXLLM("no-such-model")
    with pytest.raises(ModelNotFoundError):
        llm.complete("Hi")


def test_metadata_are_those_of_the_model() -> None:
    def metadata(window: int, longest: int | None, **options: Any) -> Any:
        capabilities = ModelCapabilities(context_window=window, max_output_tokens=longest, tools=window > 5000)
        return MLXLLM("fake", backend=FakeChatBackend(capabilities=capabilities), **options).metadata

    found = metadata(8000, None)
    assert (found.context_window, found.num_output, found.model_name) == (8000, 2000, "fake")
    assert found.is_chat_model and found.is_function_calling_model
    assert metadata(8000, 500).num_output == 500
    assert metadata(8000, None, max_tokens=3000).num_output == 3000
    assert metadata(4000, None, max_tokens=9000).num_output == 3999
    assert not metadata(4000, None).is_function_calling_model


def test_a_model_can_be_written_down_and_read_back() -> None:
    llm = MLXLLM("demo", temperature=0.5, stop=["END"], logit_bias={5: -1.0}, system_prompt="S", reasoning=False)
    again = MLXLLM.from_dict(llm.to_dict())
    assert again.to_dict() == llm.to_dict() == MLXLLM.from_json(llm.to_json()).to_dict()
    assert json.loads(llm.to_json())["class_name"] == MLXLLM.class_name() == "MLXLLM"
    assert "temperature=0.5" in repr(llm) and "backend" not in repr(llm) and str(llm)


def test_a_pickle_leaves_the_backend_behind(caplog: pytest.LogCaptureFixture) -> None:
    llm, _ = fake_llm(temperature=0.5)
    again = pickle.loads(pickle.dumps(llm))
    assert again.backend is None and again.to_dict() == llm.to_dict() and again.tokenizer
    assert caplog.text == ""


def test_copies_share_the_backend() -> None:
    llm, backend = fake_llm(template_options={"x": [1]})
    copied = copy.deepcopy(llm)
    assert copied.backend is backend
    assert copied.template_options == {"x": [1]} and copied.template_options is not llm.template_options
    assert copied.complete("Hi").text == copy.copy(llm).complete("Hi").text == "Hello there."


def test_the_tokenizer_serves_the_settings() -> None:
    llm, _ = fake_llm()
    before = Settings._node_parser, Settings._tokenizer
    import llama_index.core

    old = llama_index.core.global_tokenizer
    try:
        Settings.tokenizer = llm.tokenizer
        assert len(Settings.tokenizer("one two three")) == 3
    finally:
        llama_index.core.global_tokenizer = old
        Settings._node_parser, Settings._tokenizer = before


def test_memories_are_as_large_as_the_budget() -> None:
    backend = FakeChatBackend(capabilities=ModelCapabilities(context_window=10_000))
    llm = MLXLLM("fake", backend=backend)
    assert context_budget(llm) == context_budget(10_000) == 6000
    assert (memory(llm).token_limit, memory(llm).token_flush_size) == (6000, 600)
    assert chat_memory_buffer(llm, fraction=0.5).token_limit == 5000
    assert memory(llm, token_limit=100).token_limit == 100


@pytest.mark.parametrize(("window", "tokens"), [(1024, 128), (4096, 2048), (8192, 4915), (400_000, 200_000)])
def test_in_a_small_window_a_memory_leaves_room_for_what_goes_around_it(window: int, tokens: int) -> None:
    """LlamaIndex's engines fail with "Chunk size is not positive" otherwise."""
    backend = FakeChatBackend(capabilities=ModelCapabilities(context_window=window))
    llm = MLXLLM("fake", backend=backend)
    assert memory(llm).token_limit == chat_memory_buffer(llm).token_limit == tokens


def test_a_buffer_forgets_what_does_not_fit() -> None:
    backend = FakeChatBackend(capabilities=ModelCapabilities(context_window=20))
    buffer = chat_memory_buffer(MLXLLM("fake", backend=backend), token_limit=15)
    for turn in range(20):
        buffer.put(ChatMessage(role="user", content=f"turn {turn} with words"))
    assert [message.content for message in buffer.get()] == [f"turn {turn} with words" for turn in (17, 18, 19)]


def test_names_are_loaded_when_they_are_used() -> None:
    assert dir(room) == sorted(room.__all__)
    with pytest.raises(AttributeError, match="no attribute `Nothing`"):
        room.Nothing  # noqa: B018
    code = (
        "import sys, mlx_integrations.llama_index as room\n"
        "assert 'llama_index' not in sys.modules and 'mlx' not in sys.modules\n"
        "room.MLXLLM('demo', temperature=0)\n"
        "assert 'mlx' not in sys.modules and 'langchain_core' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_missing_extra_is_named_with_the_line_that_installs_it() -> None:
    code = (
        "import sys, importlib.abc\n"
        "class Gone(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name.partition('.')[0] == 'llama_index':\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Gone())\n"
        "from mlx_integrations.errors import MissingExtraError\n"
        "import mlx_integrations.llama_index as room\n"
        "try:\n"
        "    room.MLXLLM\n"
        "except MissingExtraError as error:\n"
        "    assert 'mlx-integrations[llama-index]' in str(error), error\n"
        "else:\n"
        "    raise SystemExit(1)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_nothing_is_put_into_the_package_of_llama_index() -> None:
    root = Path(__file__).parent.parent.parent
    assert not (root / "llama_index").exists()
    built = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]["targets"]
    assert set(built["wheel"]["only-include"]) == {"mlx_integrations", "docs"}
    assert set(built["wheel"]["sources"].values()) <= {"mlx_integrations/demo/docs"}
