"""The MLX backend keeps the contract of every chat backend, on the demo model and on noise."""

import pytest

from mlx_integrations.assembly import chat_backend
from mlx_integrations.protocols import ChatBackend
from mlx_integrations.runtime.chat.backend import MLXChatBackend
from mlx_integrations.runtime.engine import Runtime
from tests.contracts.chat_backend import ChatBackendContract
from tests.runtime.conftest import TinyModel
from tests.tiny_models import ARCHITECTURES


class TestDemo(ChatBackendContract):
    @pytest.fixture
    def backend(self) -> ChatBackend:
        return chat_backend("demo")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
class TestRandomModels(ChatBackendContract):
    writes_noise = True

    @pytest.fixture
    def backend(self, architecture: str, tiny_model: TinyModel, runtime: Runtime) -> ChatBackend:
        return MLXChatBackend(tiny_model(architecture), runtime=runtime)
