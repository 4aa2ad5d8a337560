"""Sections of endpoints: from every source, checked by name and value, and without keys in them."""

from pathlib import Path
from typing import Any

import pytest

from mlx_integrations.errors import ConfigurationError
from mlx_integrations.settings import EndpointSettings, Settings

KEY = "sk-canary-0123456789"


@pytest.fixture(autouse=True)
def user_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "user.toml"
    path.touch()
    monkeypatch.setenv("MLXI_CONFIG", str(path))
    monkeypatch.chdir(tmp_path)
    return path


def test_endpoints_come_from_every_source_key_by_key(user_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user_file.write_text('[endpoints.studio]\nkind = "lmstudio"\nmodel = "a"\n')
    monkeypatch.setenv("MLXI_ENDPOINTS__STUDIO__MODEL", "b")
    monkeypatch.setenv("MLXI_ENDPOINTS__GPU__OPTIONS", "top_k, min_p")
    found = Settings(endpoints={"studio": {"vision": True}}).endpoints
    assert found["studio"] == EndpointSettings(kind="lmstudio", model="b", vision=True)
    assert found["gpu"].options == ("top_k", "min_p")
    assert Settings(endpoints={}).endpoints.keys() == {"studio", "gpu"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "olama"}, "did you mean `ollama`"),
        ({"base_url": "studio.local"}, "an address that begins with http"),
        ({"timeout_seconds": 0}, "a number above 0"),
        ({"context_tokens": 0}, "a whole number of at least 1"),
        ({"model": ""}, "text that is not empty"),
    ],
)
def test_an_impossible_value_is_told_with_what_is_allowed(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        Settings(endpoints={"a": values})
    assert f"`endpoints.a.{next(iter(values))}`" in str(caught.value)


def test_an_unknown_key_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings(endpoints={"a": {"modle": "x"}})
    assert caught.value.hint == "Did you mean `endpoints.a.model`?"


def test_a_key_in_a_file_is_refused_and_not_shown(user_file: Path) -> None:
    user_file.write_text(f'[endpoints.cloud]\nkind = "openai"\napi_key = "{KEY}"\n')
    with pytest.raises(
        ConfigurationError, match=r"`endpoints\.cloud\.api_key` \(in `.*user\.toml`, line 3\)"
    ) as caught:
        Settings()
    assert "`api_key_env`" in caught.value.hint and KEY not in str(caught.value)


def test_a_key_in_a_variable_of_ours_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLXI_ENDPOINTS__CLOUD__API_KEY", KEY)
    with pytest.raises(ConfigurationError, match="MLXI_ENDPOINTS__CLOUD__API_KEY") as caught:
        Settings()
    assert "`api_key_env`" in caught.value.hint and KEY not in str(caught.value)


@pytest.mark.parametrize(
    "values",
    [
        {"api_key_env": KEY},
        {"base_url": f"https://user:{KEY}@example.com/v1"},
        {"base_url": f"https://example.com/v1?key={KEY}"},
    ],
)
def test_a_key_where_it_does_not_belong_is_not_shown(values: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings(endpoints={"a": values})
    assert KEY not in str(caught.value) and "*****" in str(caught.value)
