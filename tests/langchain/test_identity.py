"""Who a model is: to the LLM cache, to a file, to a copy, and what it claims to be able to do."""

import copy
import pickle
import subprocess
import sys
import threading
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.load import dumpd, dumps, load, loads
from langchain_core.messages import AIMessage, HumanMessage

from mlx_integrations import __version__, assembly
from mlx_integrations.errors import InvalidRequestError, ModelNotFoundError
from mlx_integrations.langchain import ChatMLX
from mlx_integrations.langchain.batching import MAX_CONCURRENCY
from mlx_integrations.langchain.profile import LazyProfile
from mlx_integrations.testing import FakeChatBackend
from mlx_integrations.types import ModelCapabilities
from tests.langchain.fakes import add, fake_model

NAMESPACES = ["mlx_integrations"]


def test_two_models_never_share_a_cache_entry() -> None:
    cache = InMemoryCache()
    first = ChatMLX(model="a", backend=FakeChatBackend(["I am a"]), cache=cache)
    second = ChatMLX(model="b", backend=FakeChatBackend(["I am b"]), cache=cache)
    assert [first.invoke("Hi").content, second.invoke("Hi").content] == ["I am a", "I am b"]


def test_two_backends_never_share_a_cache_entry() -> None:
    cache = InMemoryCache()
    first = ChatMLX(model="m", backend=FakeChatBackend(["I am a"], model_id="a"), cache=cache)
    second = ChatMLX(model="m", backend=FakeChatBackend(["I am b"], model_id="b"), cache=cache)
    assert [first.invoke("Hi").content, second.invoke("Hi").content] == ["I am a", "I am b"]


def test_the_same_question_to_the_same_model_is_answered_from_the_cache() -> None:
    model, backend = fake_model("one", "two", cache=InMemoryCache())
    assert [model.invoke("Hi").content for _ in range(2)] == ["one", "one"]
    assert len(backend.requests) == 1


@pytest.mark.parametrize(
    "variant",
    [
        lambda model: model.bind(temperature=0.9),
        lambda model: model.bind(stop=["x"]),
        lambda model: model.bind_tools([add]),
        lambda model: model.bind_tools([], response_format={"type": "json_object"}),
        lambda model: model.model_copy(update={"seed": 1}),
        lambda model: model.model_copy(update={"template_options": {"a": 1}}),
    ],
)
def test_whatever_changes_the_answer_changes_the_cache_entry(variant: Any) -> None:
    model, backend = fake_model("one", "two", cache=InMemoryCache())
    model.invoke("Hi")
    variant(model).invoke("Hi")
    assert len(backend.requests) == 2


def test_a_value_changed_later_changes_the_cache_entry() -> None:
    model, backend = fake_model("one", "two", cache=InMemoryCache())
    model.invoke("Hi")
    model.temperature = 0.9
    model.invoke("Hi")
    assert len(backend.requests) == 2


FULL: dict[str, Any] = {
    "model": "demo",
    "temperature": 0.0,
    "max_tokens": 5,
    "stop": ["x"],
    "logit_bias": {5: 1.0},
    "reasoning": False,
    "template_options": {"today": "Monday"},
}


def test_identifying_parameters_are_the_model_and_what_was_set() -> None:
    assert ChatMLX(**FULL)._identifying_params == FULL
    assert ChatMLX(**FULL).asdict() == {**FULL, "_type": "mlx-chat"}
    assert ChatMLX(model="demo")._llm_type == "mlx-chat"


@pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")
def test_a_model_comes_back_from_a_file() -> None:
    model = ChatMLX(**FULL)
    assert loads(dumps(model), allowed_objects=[ChatMLX], valid_namespaces=NAMESPACES) == model
    assert load(dumpd(model), allowed_objects=[ChatMLX], valid_namespaces=NAMESPACES) == model


def test_a_backend_given_by_hand_is_not_written_to_a_file() -> None:
    assert "backend" not in dumpd(fake_model()[0])["kwargs"]
    assert "Fake" not in dumps(fake_model()[0])


def test_a_model_survives_pickling() -> None:
    assert pickle.loads(pickle.dumps(ChatMLX(**FULL))) == ChatMLX(**FULL)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda model: model.model_copy(deep=True)])
def test_copies_are_equal_and_share_the_backend(copied: Any) -> None:
    model, backend = fake_model(runtime=threading.Lock(), **{name: FULL[name] for name in FULL if name != "model"})
    twin = copied(model)
    assert twin == model
    assert twin.backend is backend and twin.runtime is model.runtime


def test_constructing_a_model_reads_nothing() -> None:
    code = (
        "import sys\n"
        "from mlx_integrations.langchain import ChatMLX\n"
        "model = ChatMLX(model='no-such-model')\n"
        "repr(model), model == ChatMLX(model='no-such-model'), model.model_copy(), model.bind_tools([])\n"
        "print([name for name in ('mlx', 'mlx_lm', 'langchain', 'langgraph', 'numpy') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


def test_a_model_that_is_not_here_is_named_when_it_is_called() -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        ChatMLX(model="no-such-model").invoke("Hi")
    assert caught.value.model == "no-such-model"


CAPABILITIES = ModelCapabilities(context_window=4096, max_output_tokens=512, tools=True, reasoning=False)


def test_the_profile_says_what_the_model_can_do() -> None:
    model = ChatMLX(model="fake", backend=FakeChatBackend(capabilities=CAPABILITIES))
    profile = model.profile
    assert profile is not None
    assert (profile["max_input_tokens"], profile["max_output_tokens"]) == (4096, 512)
    assert profile["tool_calling"] and profile["tool_choice"] and profile["structured_output"]
    assert not profile["reasoning_output"] and not profile["image_inputs"]


def test_the_profile_is_looked_up_once_and_late(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up = []

    def chat_backend(model: str, runtime: Any = None) -> FakeChatBackend:
        looked_up.append(model)
        return FakeChatBackend(capabilities=CAPABILITIES)

    monkeypatch.setattr(assembly, "chat_backend", chat_backend)
    model = ChatMLX(model="own")
    assert model.profile and repr(model.profile) == "LazyProfile(not read yet)" and looked_up == []
    assert model.profile["max_input_tokens"] == model.profile["max_input_tokens"] == 4096
    assert looked_up == ["own"]
    other = model.model_copy(update={"model": "other"})
    assert other.profile is not None and other.profile["tool_calling"]
    assert looked_up == ["own", "other"]
    assert ChatMLX(**{**dict(model), "model": "third"}).profile != model.profile


def test_a_profile_given_by_hand_is_kept() -> None:
    model = ChatMLX(model="fake", profile={"max_input_tokens": 7})
    assert model.profile == {"max_input_tokens": 7} == model.model_copy().profile


def test_a_lazy_profile_is_a_mapping_like_any_other() -> None:
    profile = LazyProfile(lambda: {"max_input_tokens": 7})
    assert (len(profile), list(profile), profile == {"max_input_tokens": 7}) == (1, ["max_input_tokens"], True)
    assert profile != 7 and hash(profile) == hash(profile)
    assert repr(profile) == "LazyProfile({'max_input_tokens': 7})"


def test_tokens_are_counted_by_the_backend() -> None:
    model, backend = fake_model()
    assert model.get_token_ids("one two") == backend.tokenize("one two")
    assert model.get_num_tokens("one two three") == 3
    messages = model._convert_input("one two").to_messages()
    assert model.get_num_tokens_from_messages(messages) == 3
    assert model.get_num_tokens_from_messages(messages, tools=[add]) > 3
    assert model.get_num_tokens_from_messages([]) == 0


def test_the_end_of_a_conversation_can_be_counted_where_a_template_wants_a_user_first() -> None:
    class Strict(FakeChatBackend):
        def count_prompt_tokens(self, messages: Any, tools: Any = ()) -> int:
            if messages[0].role != "user" or messages[-1].content == "bad":
                raise InvalidRequestError("refused", field="messages")
            return super().count_prompt_tokens(messages, tools)

    model = ChatMLX(model="fake", backend=Strict())
    assert model.get_num_tokens_from_messages([AIMessage("one two"), HumanMessage("three")]) == 6
    for last in (HumanMessage("bad"), AIMessage("bad")):
        with pytest.raises(InvalidRequestError):
            model.get_num_tokens_from_messages([last])


def test_a_tokenizer_given_by_hand_is_used() -> None:
    assert fake_model(custom_get_token_ids=lambda text: [1] * len(text))[0].get_num_tokens("four") == 4


def test_traces_carry_the_version_of_this_package() -> None:
    model = ChatMLX(model="demo")
    assert model.metadata is not None
    assert model.metadata["lc_versions"]["mlx-integrations"] == __version__


class Meeting(FakeChatBackend):
    """Answers only when so many requests are there at once."""

    def __init__(self, expected: int) -> None:
        super().__init__(["Hello."])
        self.barrier = threading.Barrier(expected, timeout=30)

    def stream(self, request: Any) -> Any:
        self.barrier.wait()
        return super().stream(request)


@pytest.mark.parametrize("via", ["batch", "bound", "chain"])
def test_a_batch_runs_at_once(via: str) -> None:
    model = ChatMLX(model="fake", backend=Meeting(MAX_CONCURRENCY))
    runnable = {"batch": model, "bound": model.bind(temperature=0), "chain": model | (lambda message: message)}[via]
    assert len(runnable.batch(["Hi"] * MAX_CONCURRENCY)) == MAX_CONCURRENCY


@pytest.mark.parametrize("flavour", ["one", "list"])
def test_an_explicit_limit_of_a_batch_is_kept(flavour: str) -> None:
    running, most = 0, 0
    lock = threading.Lock()

    class Counting(FakeChatBackend):
        def stream(self, request: Any) -> Any:
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            yield from super().stream(request)
            with lock:
                running -= 1

    model = ChatMLX(model="fake", backend=Counting(["one two"]))
    model.batch(["Hi"] * 9, config={"max_concurrency": 2} if flavour == "one" else [{"max_concurrency": 2}] * 9)
    assert most <= 2


async def test_an_async_batch_is_as_wide() -> None:
    running, most = 0, 0

    class Counting(FakeChatBackend):
        async def astream(self, request: Any) -> Any:
            nonlocal running, most
            running += 1
            most = max(most, running)
            async for chunk in super().astream(request):
                yield chunk
            running -= 1

    model = ChatMLX(model="fake", backend=Counting(["one two three"]))
    assert len(await model.abatch(["Hi"] * 100)) == 100
    assert most == MAX_CONCURRENCY


def test_errors_of_a_batch_can_be_returned() -> None:
    model, _ = fake_model("one", ValueError("two"))
    results = model.batch(["a", "b"], return_exceptions=True)
    assert {type(result).__name__ for result in results} == {"AIMessage", "ValueError"}
    assert model.batch([]) == []
