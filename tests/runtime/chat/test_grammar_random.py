"""A thousand forced calls and a thousand schema answers of a random model: nothing invalid, ever.

A random model is the hardest case: it never writes valid JSON out of habit.
"""

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import jsonschema
import pytest

from mlx_integrations.runtime.chat.backend import MLXChatBackend
from mlx_integrations.runtime.engine import Runtime
from mlx_integrations.types import (
    ChatMessage,
    ChatRequest,
    ChatResult,
    JsonSchemaFormat,
    SamplingParams,
    ToolChoice,
    ToolSpec,
)
from tests.runtime.chat.schemas import SCHEMAS
from tests.runtime.conftest import TinyModel
from tests.tiny_models import CHAT_TEMPLATE

COUNT = 1000
_OBJECTS = {name: schema for name, schema in SCHEMAS.items() if schema.get("type") == "object"}
_TOOLS = tuple(ToolSpec(name=name, description=f"Tool {name}", parameters=s) for name, s in _OBJECTS.items())


@pytest.fixture
def backend(tiny_model: TinyModel, runtime: Runtime) -> MLXChatBackend:
    """Its template shows names only: a random model learns nothing from schemas, and prompts stay short."""
    template = CHAT_TEMPLATE.replace("{{ tool | tojson }}", "{{ tool.function.name }}")
    return MLXChatBackend(tiny_model("llama", name="names_only", chat_template=template), runtime=runtime)


def _request(number: int, **options: object) -> ChatRequest:
    return ChatRequest(
        messages=(ChatMessage(role="user", content=f"request {number}"),),
        sampling=SamplingParams(temperature=1.0, seed=number, max_tokens=1500),
        reasoning=False,
        **options,  # type: ignore[arg-type]
    )


def _run(backend: MLXChatBackend, requests: list[ChatRequest]) -> list[ChatResult]:
    with ThreadPoolExecutor(32) as pool:
        return list(pool.map(lambda request: ChatResult.join(backend.stream(request)), requests))


@pytest.mark.slow
def test_a_thousand_forced_calls_are_valid(backend: MLXChatBackend) -> None:
    requests = []
    for number in range(COUNT):
        offered = tuple(_TOOLS[(number * 7 + i) % len(_TOOLS)] for i in range(1 + number % 4))
        choice = ToolChoice(mode="any") if number % 2 else ToolChoice(mode="tool", name=offered[0].name)
        requests.append(_request(number, tools=offered, tool_choice=choice, parallel_tool_calls=number % 3 == 0))
    used: Counter[str] = Counter()
    for request, result in zip(requests, _run(backend, requests), strict=True):
        assert result.finish.reason == "tool_calls", result
        assert not result.invalid_tool_calls
        assert not result.text
        assert result.tool_calls
        assert len({call.id for call in result.tool_calls}) == len(result.tool_calls)
        if request.tool_choice.mode == "tool" or not request.parallel_tool_calls:
            assert len(result.tool_calls) == 1
        for call in result.tool_calls:
            jsonschema.validate(dict(call.arguments), _OBJECTS[call.name])
            assert call.name in {tool.name for tool in request.tools}
            used[call.name] += 1
        if request.tool_choice.mode == "tool":
            assert result.tool_calls[0].name == request.tool_choice.name
    assert set(used) == set(_OBJECTS)


@pytest.mark.slow
def test_a_thousand_schema_answers_are_valid(backend: MLXChatBackend) -> None:
    names = list(SCHEMAS)
    schemas = [SCHEMAS[names[number % len(names)]] for number in range(COUNT)]
    requests = [_request(n, output=JsonSchemaFormat(schema=schema)) for n, schema in enumerate(schemas)]
    for schema, result in zip(schemas, _run(backend, requests), strict=True):
        assert result.finish.reason == "stop", result
        jsonschema.validate(json.loads(result.text), schema)
