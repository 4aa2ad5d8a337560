"""`mlxi route explain`: who would be asked, told to people and to programs; nobody is."""

import json
from pathlib import Path
from typing import Any

import pytest

from mlx_integrations import assembly
from mlx_integrations.cli.exit_codes import ExitCode
from mlx_integrations.cli.main import main
from mlx_integrations.seal import watch_network

SETTINGS = """
[models]
default = "demo"

[endpoints.neighbour]
kind = "compatible"
base_url = "http://127.0.0.1:9/v1"
model = "big"
vision = true

[endpoints.proxy]
base_url = "http://127.0.0.1:9/v1"
model = "big"
forwards = true

[endpoints.cloud]
kind = "openai"
model = "gpt"

[router]
allow_cloud = true

[router.tasks]
code = ["cloud", "neighbour/coder"]
"""


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "user.toml"
    path.write_text(SETTINGS)
    monkeypatch.setenv("MLXI_CONFIG", str(path))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-hush")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(assembly, "_settings", None)
    # Names are not looked up by servers, which a test may not ask.
    monkeypatch.setattr("mlx_integrations.router.location._addresses", {"api.openai.com": ["203.0.113.7"]}.__getitem__)


def _explain(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, Any]:
    code = main(["route", "explain", *argv, "--json"])
    record: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert code == (ExitCode.DONE if record["order"] else ExitCode.FAILED)
    return record


def test_a_plan_is_a_table_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["route", "explain", "Write a function.", "--task", "code"]) == ExitCode.DONE
    captured = capsys.readouterr()
    assert "the cloud is allowed" in captured.err
    heading, *rows = captured.out.splitlines()
    assert heading.split() == ["order", "candidate", "why"]
    assert [row.split()[:2] for row in rows] == [
        ["1", "cloud"],
        ["2", "neighbour/coder"],
        ["3", "demo"],
        ["4", "neighbour"],
        ["5", "proxy"],
    ]
    assert "you prefer it for `code`" in rows[0]


def test_a_plan_is_json_for_programs_and_names_each_place(capsys: pytest.CaptureFixture[str]) -> None:
    record = _explain(capsys, "Hello")
    assert record["order"][0] == "demo"
    places = {item["name"]: item["location"] for item in record["candidates"]}
    assert places == {
        "demo": "in-process",
        "neighbour": "loopback",
        "proxy": "remote",
        "cloud": "remote",
        "neighbour/coder": "loopback",
    }


def test_what_is_private_stays_and_is_not_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["My card is 4111 1111 1111 1111."], ["Hi", "--private"], ["Hi", "--tag", "private"]):
        record = _explain(capsys, *argv, "--task", "code")
        assert set(record["order"]) == {"demo", "neighbour", "neighbour/coder"}
        assert record["private_because"]
        assert "4111" not in json.dumps(record)
    assert "cloud" in _explain(capsys, "My card is 4111 1111 1111 1111.", "--not-private")["order"]
    assert main(["route", "explain", "Hi", "--private"]) == ExitCode.DONE
    assert "must stay on this machine: it was said to be private" in capsys.readouterr().err


def test_what_comes_with_a_request_counts(capsys: pytest.CaptureFixture[str]) -> None:
    images = _explain(capsys, "Look.", "--image")
    assert images["order"] == ["neighbour", "neighbour/coder"]
    reasons = {item["name"]: item["reason"] for item in images["candidates"]}
    assert reasons["demo"] == reasons["cloud"] == "it reads no images"
    long = _explain(capsys, "x " * 100_000, "--max-tokens", "100")
    assert "demo" not in long["order"] and "cloud" in long["order"]
    assert set(_explain(capsys, "Hi", "--offline")["order"]) == {"demo", "neighbour", "neighbour/coder"}


def test_an_endpoint_without_its_key_is_left_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    record = _explain(capsys, "Hi")
    (cloud,) = [item for item in record["candidates"] if item["name"] == "cloud"]
    assert not cloud["is_taken"] and "OPENAI_API_KEY is not set" in cloud["reason"]


def test_it_ends_with_1_if_nobody_may_be_asked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLXI_ROUTER__MODE", "cloud_only")
    assert _explain(capsys, "Hi", "--private")["order"] == []
    assert main(["route", "explain", "Hi", "--private"]) == ExitCode.FAILED
    assert "Nobody may be asked." in capsys.readouterr().err


def test_names_that_nobody_has_are_refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLXI_ROUTER__TASKS__CODE", "dmeo")
    assert main(["route", "explain", "Hi"]) == ExitCode.FAILED
    assert "Did you mean `demo`?" in capsys.readouterr().err
    monkeypatch.delenv("MLXI_ROUTER__TASKS__CODE")
    assert main(["route", "explain", "Hi", "--task", "coding"]) == ExitCode.FAILED
    assert "Did you mean `code`?" in capsys.readouterr().err


def test_nobody_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    with watch_network(on_contact=lambda contact: None) as watch:
        _explain(capsys, "Hi", "--task", "code")
    assert not watch.contacts
