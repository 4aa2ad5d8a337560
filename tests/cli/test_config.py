"""`mlxi config`: what is set, where it comes from, and how to change it."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from mlx_integrations.cli.exit_codes import ExitCode
from mlx_integrations.cli.main import main
from mlx_integrations.cli.parts import Parts
from mlx_integrations.offline import switch_off_network
from mlx_integrations.settings import Settings


@pytest.fixture
def user_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLXI_CONFIG")
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HOME", "HF_HUB_CACHE", "HF_ENDPOINT", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return tmp_path / "config" / "mlxi" / "config.toml"


def _run(*argv: str) -> int:
    return main(["config", *argv], Parts(settings=lambda **values: Settings(**values)))


def test_a_value_is_set_shown_traced_and_unset(user_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("set", "models.default", "llama-3.2-3b") == 0
    assert "models.default = llama-3.2-3b in ~/config/mlxi/config.toml" in capsys.readouterr().err
    assert user_file.read_text() == '[models]\ndefault = "llama-3.2-3b"\n'
    assert _run("get", "models.default") == 0
    assert capsys.readouterr().out == "llama-3.2-3b\n"
    assert _run("show", "models", "--changed") == 0
    heading, row = capsys.readouterr().out.splitlines()
    assert heading.split() == ["setting", "value", "from"]
    assert row.split() == ["models.default", "llama-3.2-3b", "~/config/mlxi/config.toml:2"]
    assert _run("unset", "models.default") == 0
    assert _run("get", "models.default") == 0
    assert capsys.readouterr().out == "demo\n"
    assert _run("unset", "models.default") == 0
    assert "was not set" in capsys.readouterr().err


def test_everything_is_shown_for_programs(user_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mlxi.toml").write_text('[models]\nfolders = ["/a", "/b"]\n')
    assert _run("show", "--json") == 0
    records = {record["setting"]: record for record in json.loads(capsys.readouterr().out)}
    assert records["offline"] == {"setting": "offline", "value": False, "from": {"kind": "default"}}
    assert records["models.folders"]["value"] == ["/a", "/b"]
    assert records["models.folders"]["from"] == {"kind": "file", "place": "mlxi.toml", "line": 2}
    assert "embedding.profiles.projects.model" in records


def test_secrets_are_never_printed(
    user_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_hush")
    monkeypatch.setenv("HF_ENDPOINT", "https://me:hush@mirror.example/x@y")
    for argv in (["show"], ["show", "--json"], ["get", "hub.token"], ["get", "hub.token", "--json"]):
        assert _run(*argv) == 0
        text = capsys.readouterr().out
        assert "hush" not in text
        assert "********" in text
    assert _run("get", "hub.endpoint") == 0
    assert capsys.readouterr().out == "https://********@mirror.example/x@y\n"
    assert _run("set", "hub.token", "hf_hush") == ExitCode.FAILED
    captured = capsys.readouterr()
    assert "hf_hush" not in captured.out + captured.err
    assert not user_file.exists()


def test_a_stronger_place_is_told(
    user_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLXI_MODELS__DEFAULT", "other")
    assert _run("set", "models.default", "mine") == 0
    assert "MLXI_MODELS__DEFAULT is stronger" in capsys.readouterr().err


def test_a_project_has_a_file_of_its_own(user_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("set", "runtime.max_batch_size", "4", "--project") == 0
    assert "stronger" not in capsys.readouterr().err
    assert Path("mlxi.toml").read_text() == "[runtime]\nmax_batch_size = 4\n"
    assert not user_file.exists()


def test_a_json_file_that_is_there_is_the_one_that_is_changed(user_file: Path) -> None:
    user_file.parent.mkdir(parents=True)
    user_file.with_suffix(".json").write_text('{"offline": true}')
    assert _run("set", "models.default", "mine") == 0
    assert json.loads(user_file.with_suffix(".json").read_text()) == {"offline": True, "models": {"default": "mine"}}
    assert not user_file.exists()


def test_the_place_of_the_file_is_data(user_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("path") == 0
    assert capsys.readouterr().out == f"{user_file}\n"
    assert _run("path", "--json") == 0
    assert json.loads(capsys.readouterr().out)["user"] == {"path": str(user_file), "exists": False}


@pytest.mark.parametrize(
    ("argv", "hint"),
    [
        (["get", "models.defualt"], "Did you mean `models.default`?"),
        (["show", "runtim"], "Did you mean `runtime`?"),
        (["set", "models.defualt", "x"], "Did you mean `models.default`?"),
        (["unset", "models.defualt"], "Did you mean `models.default`?"),
    ],
)
def test_a_misspelt_name_is_answered_with_the_nearest(
    user_file: Path, argv: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(*argv) == ExitCode.FAILED
    assert capsys.readouterr().err.splitlines()[-1] == f"hint: {hint}"


def test_what_a_setting_does_to_other_libraries_is_not_its_origin(
    user_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Settings in use switch the network off through variables that are sources of settings themselves."""

    def use(**values: Any) -> Settings:
        settings = Settings(**values)
        switch_off_network()
        return settings

    Path("mlxi.toml").write_text("offline = true\n")
    for argv, index in ((["show", "offline"], 0), (["get", "offline"], None)):
        os.environ.pop("HF_HUB_OFFLINE", None), os.environ.pop("TRANSFORMERS_OFFLINE", None)
        assert main(["config", *argv, "--json"], Parts(settings=use)) == 0
        record = json.loads(capsys.readouterr().out)
        assert (record if index is None else record[index])["from"]["place"] == "mlxi.toml"


def test_an_option_is_an_origin_too(user_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--offline", "config", "show", "offline"], Parts(settings=lambda **values: Settings(**values))) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["offline", "true", "argument"]
