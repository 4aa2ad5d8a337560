"""A real server of somebody else: mlx_lm.server with the demo model answers as its preset says."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlx_integrations.cloud import Connection, OpenAIChatBackend, probe
from mlx_integrations.errors import RemoteModelNotFoundError
from mlx_integrations.types import ChatMessage, ChatRequest, ChatResult, SamplingParams, ToolSpec
from tests.hub import DEMO_FOLDER

PATIENCE_SECONDS = 120
WEATHER = ToolSpec(
    name="get_weather",
    description="Look up the weather in a city.",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlx_lm.server", "--model", str(DEMO_FOLDER), "--port", str(port)]
    log = tmp_path_factory.mktemp("mlx-lm") / "server.log"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    with log.open("w") as told, subprocess.Popen(command, stdout=told, stderr=told, env=environment) as server:
        try:
            _wait_for(f"http://127.0.0.1:{port}/v1", server, log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.terminate()


def _wait_for(address: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    connection, until = Connection(base_url=address), time.monotonic() + PATIENCE_SECONDS
    while not probe(connection, timeout_seconds=PATIENCE_SECONDS).is_ready:
        assert server.poll() is None and time.monotonic() < until, log.read_text()
        time.sleep(0.1)
    connection.close()


def _ask(backend: OpenAIChatBackend, question: str, *tools: ToolSpec) -> ChatResult:
    sampling = SamplingParams(temperature=0.0, seed=1, max_tokens=60)
    request = ChatRequest(messages=(ChatMessage(role="user", content=question),), tools=tools, sampling=sampling)
    return ChatResult.join(backend.stream(request))


def test_it_answers_calls_tools_and_says_what_it_does_not_have(address: str) -> None:
    backend = OpenAIChatBackend(base_url=address, model=str(DEMO_FOLDER), kind="mlx-lm", model_id="demo there")
    result = _ask(backend, "Hello! Who are you?")
    assert "demo model" in result.text and result.finish.model_id == "demo there"
    assert result.finish.usage.prompt_tokens > 5 and result.finish.usage.completion_tokens > 5
    called = _ask(backend, "What is the weather in Paris?", WEATHER)
    assert [(call.name, call.arguments) for call in called.tool_calls] == [("get_weather", {"city": "Paris"})]
    assert called.finish.reason == "tool_calls"
    backend.close()
    other = OpenAIChatBackend(base_url=address, model="no/such-model", kind="mlx-lm")
    with pytest.raises(RemoteModelNotFoundError, match="no/such-model"):
        _ask(other, "Hi")
    other.close()
