"""LangChain's own unit tests for chat models."""

from typing import Any

import pytest
from langchain_tests.unit_tests import ChatModelUnitTests

from mlx_integrations.langchain import ChatMLX, register_with_langchain
from mlx_integrations.testing import FakeChatBackend

pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")


class TestChatMLXUnit(ChatModelUnitTests):
    @pytest.fixture(autouse=True)
    def _registered(self) -> None:
        """The standard test loads a model by `allowed_objects="all"`, which knows only registered ones."""
        register_with_langchain()

    @property
    def chat_model_class(self) -> type[ChatMLX]:
        return ChatMLX

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": "fake", "backend": FakeChatBackend()}

    @property
    def supports_json_mode(self) -> bool:
        return True
