"""The room's names, what importing them costs, and what happens without the openai client."""

import subprocess
import sys

import pytest

from mlx_integrations import cloud

HEAVY = ["openai", "httpx", "httpx2", "numpy", "mlx"]


@pytest.mark.parametrize("name", cloud.__all__)
def test_every_name_resolves_and_loads_no_client(name: str) -> None:
    code = f"import sys; from mlx_integrations.cloud import {name}; print([x for x in {HEAVY!r} if x in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute `Backend`"):
        _ = cloud.Backend


MISSING = """
import asyncio, sys
sys.modules["openai"] = None
from mlx_integrations.cloud import Connection, OpenAIChatBackend, OpenAIEmbeddingBackend, aprobe, probe
from mlx_integrations.errors import MissingExtraError
from mlx_integrations.types import ChatMessage, ChatRequest

asked = ChatRequest(messages=(ChatMessage(role="user", content="Hi"),))
chat = OpenAIChatBackend(base_url="http://localhost:1/v1", model="m")
embedding = OpenAIEmbeddingBackend(base_url="http://localhost:1/v1", model="m")
way = Connection(base_url="http://localhost:1/v1")
calls = [
    lambda: next(chat.stream(asked)),
    lambda: asyncio.run(anext(chat.astream(asked))),
    lambda: next(embedding.stream(["a"])),
    lambda: asyncio.run(anext(embedding.astream(["a"]))),
    lambda: probe(way),
    lambda: asyncio.run(aprobe(way)),
]
for call in calls:
    try:
        call()
    except MissingExtraError as error:
        assert 'pip install "mlx-integrations[openai]"' in error.hint
    else:
        raise SystemExit("it went on")
"""


def test_without_the_client_the_install_line_is_told() -> None:
    done = subprocess.run([sys.executable, "-c", MISSING], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
