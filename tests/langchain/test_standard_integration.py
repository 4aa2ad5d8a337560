"""LangChain's own integration tests for chat models, on the demo model: real generation, tools and schemas."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langchain_tests.integration_tests import ChatModelIntegrationTests

from mlx_integrations.langchain import ChatMLX
from tests.langchain.fakes import joined

DEMO_FOLDER = Path(__file__).parents[2] / "mlx_integrations" / "demo" / "model"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning"),
]


class TestChatMLXIntegration(ChatModelIntegrationTests):
    other_model: Path

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _other_model(cls, tmp_path_factory: pytest.TempPathFactory) -> None:
        """A second model to switch to in mid-conversation: the same files in another folder."""
        cls.other_model = tmp_path_factory.mktemp("models") / "other-model"
        shutil.copytree(DEMO_FOLDER, cls.other_model)

    @property
    def chat_model_class(self) -> type[ChatMLX]:
        return ChatMLX

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": "demo", "temperature": 0}

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

    @property
    def returns_usage_metadata(self) -> bool:
        return True

    @property
    def supported_usage_metadata_details(self) -> dict[Any, list[Any]]:
        """The demo model does not reason; the rest of the list is about sound and other providers' caches."""
        return {"invoke": ["cache_read_input"], "stream": ["cache_read_input"]}

    def invoke_with_cache_read_input(self, *, stream: bool = False) -> AIMessage:
        model = ChatMLX(model="demo", temperature=0, max_tokens=4)
        question = "Please tell me about yourself. " * 20
        model.invoke(question)
        if not stream:
            return model.invoke(question)
        return joined(list(model.stream(question)))

    @property
    def supports_anthropic_inputs(self) -> bool:
        return True

    @property
    def supports_model_override(self) -> bool:
        return True

    @property
    def model_override_value(self) -> str:
        return str(self.other_model)
