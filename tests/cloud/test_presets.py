"""The table of endpoints is whole, and agrees with what can be configured."""

from dataclasses import fields
from typing import get_args

import pytest

from mlx_integrations.cloud.chat import OpenAIChatBackend
from mlx_integrations.cloud.client import check_address, is_loopback
from mlx_integrations.cloud.presets import PRESETS, find_preset
from mlx_integrations.errors import ConfigurationError
from mlx_integrations.settings import EndpointKind
from mlx_integrations.types import SamplingParams

BESIDES = {"tools", "tool_choice", "parallel_tool_calls", "json_schema", "json_object", "reasoning", "template_options"}


def test_every_kind_that_can_be_configured_has_a_preset() -> None:
    assert set(get_args(EndpointKind)) == set(PRESETS)


@pytest.mark.parametrize("kind", PRESETS)
def test_a_preset_is_usable(kind: str) -> None:
    preset = find_preset(kind)
    assert preset.title and preset.source.startswith("https://")
    assert not preset.base_url or check_address(preset.base_url) == preset.base_url
    assert set(preset.options) <= BESIDES | {field.name for field in fields(SamplingParams)}
    local = kind in ("ollama", "lmstudio", "mlx-lm")
    assert is_loopback(preset.base_url) is local and preset.needs_key is (not local and kind != "compatible")


def test_an_unknown_kind_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigurationError) as caught:
        OpenAIChatBackend(model="m", kind="olama")
    assert caught.value.hint == "Did you mean `ollama`?"


def test_a_server_of_ones_own_needs_an_address() -> None:
    with pytest.raises(ConfigurationError, match="no address"):
        OpenAIChatBackend(model="m")


@pytest.mark.parametrize(
    ("address", "is_local"),
    [
        ("http://localhost:1/v1", True),
        ("http://LOCALHOST./v1", True),
        ("http://ollama.localhost/v1", True),
        ("http://127.0.0.1/v1", True),
        ("http://127.9.9.9/v1", True),
        ("http://[::1]:8/v1", True),
        ("http://0.0.0.0/v1", False),
        ("http://192.168.1.2/v1", False),
        ("http://localhost.example.com/v1", False),
        ("http://127.0.0.1.example.com/v1", False),
        ("https://api.openai.com/v1", False),
    ],
)
def test_an_address_says_by_itself_whether_it_is_this_machine(address: str, is_local: bool) -> None:
    assert is_loopback(address) is is_local
