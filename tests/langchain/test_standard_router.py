"""LangChain's own tests for chat models on `ChatRouter`: a local model first, and an endpoint first."""

from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, convert_to_messages
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from mlx_integrations.langchain import ChatMLX, ChatRouter, ModelFacts
from mlx_integrations.router import Policy
from mlx_integrations.testing import FakeChatBackend
from tests.langchain.routing import allow_network, chat_openai
from tests.openai_server import OpenAIServer, Recorded, Reply

pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")


class TestChatRouterUnit(ChatModelUnitTests):
    @property
    def chat_model_class(self) -> type[ChatRouter]:
        return ChatRouter

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"models": {"fake": ChatMLX(model="fake", backend=FakeChatBackend())}}


class _RouterIntegration(ChatModelIntegrationTests):
    @property
    def chat_model_class(self) -> type[ChatRouter]:
        return ChatRouter

    @property
    def has_tool_calling(self) -> bool:
        return True

    @property
    def has_tool_choice(self) -> bool:
        return True

    @property
    def has_structured_output(self) -> bool:
        return True

    @property
    def structured_output_kwargs(self) -> dict[str, Any]:
        return {"method": "json_schema"}

    @property
    def supports_json_mode(self) -> bool:
        return True


@pytest.mark.slow
class TestRouterOnTheDemoModel(_RouterIntegration):
    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"models": {"mine": ChatMLX(model="demo", temperature=0)}}


@pytest.mark.slow
class TestRouterOnAnEndpoint(_RouterIntegration):
    """The endpoint speaks OpenAI's protocol, and has the demo model say something that makes sense."""

    server: OpenAIServer

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _server(cls) -> Iterator[None]:
        with OpenAIServer(otherwise=_by_the_demo_model) as server:
            cls.server = server
            yield

    @pytest.fixture(autouse=True)
    def _online(self, monkeypatch: pytest.MonkeyPatch) -> None:
        allow_network(monkeypatch)

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {
            "models": {"cloud": chat_openai(self.server.base_url), "mine": ChatMLX(model="demo", temperature=0)},
            "policy": Policy(mode="prefer_cloud", allow_cloud=True),
            "facts": {"cloud": ModelFacts(is_local=False)},
        }

    def test_the_endpoint_is_who_answers(self, model: BaseChatModel) -> None:
        answer = model.invoke("Who are you?")
        assert answer.response_metadata["router"]["answered_by"] == "cloud"


def _by_the_demo_model(request: Recorded) -> Reply:
    body = request.body
    known = ("tools", "tool_choice", "parallel_tool_calls", "response_format", "stop")
    options = {name: body[name] for name in known if body.get(name) is not None}
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    model = ChatMLX(model="demo", temperature=0, max_tokens=limit)
    answer: AIMessage = model.invoke(convert_to_messages(body["messages"]), **options)
    calls = [(call["name"], call["args"]) for call in answer.tool_calls]
    reason = answer.response_metadata["finish_reason"]
    return Reply(text=str(answer.text), tool_calls=calls, finish_reason=reason)
