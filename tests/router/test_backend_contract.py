"""A routed backend keeps the contract of every backend, whoever of its candidates answers."""

import pytest

from mlx_integrations.errors import GenerationError
from mlx_integrations.protocols import ChatBackend
from mlx_integrations.router.attempts import Router
from mlx_integrations.router.backend import RouterBackend
from mlx_integrations.router.candidates import Candidate
from mlx_integrations.router.policy import Deadlines, Guarantee, Policy
from mlx_integrations.testing import FakeChatBackend
from mlx_integrations.types import ChatRequest, ChatResult
from tests.contracts.chat_backend import ChatBackendContract
from tests.test_fake_contract import sensible

NO_HURRY = Deadlines(first_token=60.0, between_tokens=60.0, total=120.0)


def broken(request: ChatRequest) -> GenerationError:
    return GenerationError("It broke.")


def routed(policy: Policy, *, is_first_broken: bool) -> RouterBackend:
    first = FakeChatBackend([broken if is_first_broken else sensible], model_id="first")
    second = FakeChatBackend([sensible], model_id="second")
    candidates = [
        Candidate(name=backend.model_id, location="in-process", capabilities=backend.capabilities)
        for backend in (first, second)
    ]
    return RouterBackend({"first": first, "second": second}, Router(candidates, policy))


class _RouterContract(ChatBackendContract):
    answers = "first"

    # Overridden because an answer names the one of several models that gave it.
    def test_the_finish_names_the_model_and_its_times(self, backend: ChatBackend, request_: ChatRequest) -> None:
        finish = ChatResult.join(backend.stream(request_)).finish
        assert finish.model_id == self.answers
        assert finish.prompt_seconds >= 0 and finish.generation_seconds >= 0


@pytest.mark.parametrize("guarantee", ["live", "complete"])
class TestRouterBackend(_RouterContract):
    @pytest.fixture
    def backend(self, guarantee: Guarantee) -> ChatBackend:
        return routed(Policy(guarantee=guarantee), is_first_broken=False)


class TestRouterBackendWithDeadlines(_RouterContract):
    @pytest.fixture
    def backend(self) -> ChatBackend:
        return routed(Policy(deadlines=NO_HURRY), is_first_broken=False)


class TestRouterBackendThatFallsBack(_RouterContract):
    answers = "second"

    @pytest.fixture
    def backend(self) -> ChatBackend:
        return routed(Policy(), is_first_broken=True)
