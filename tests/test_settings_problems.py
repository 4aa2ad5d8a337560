"""Everything that is wrong with what is set is found at once."""

from pathlib import Path

import pytest

from mlx_integrations.settings import Settings
from mlx_integrations.settings.problems import find_problems


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_nothing_is_wrong_with_nothing() -> None:
    assert find_problems() == []


def test_every_unknown_name_is_found_with_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLXI_OFFLIN", "1")
    Path(".env").write_text("OTHER=1\nMLXI_MODELS__DEFAUT=x\n")
    Path("mlxi.toml").write_text('ofline = true\n\n[models]\ndefualt = "x"\nfolders = []\n')
    Path("mlxi.json").write_text('{\n "chat": {\n  "histori_entries": 5}}')
    assert [(error.message, error.hint) for error in find_problems()] == [
        ("There is no setting `MLXI_OFFLIN` (in the environment).", "Did you mean `MLXI_OFFLINE`?"),
        ("There is no setting `MLXI_MODELS__DEFAUT` (in `.env`, line 2).", "Did you mean `MLXI_MODELS__DEFAULT`?"),
        ("There is no setting `ofline` (in `mlxi.toml`, line 1).", "Did you mean `offline`?"),
        ("There is no setting `models.defualt` (in `mlxi.toml`, line 4).", "Did you mean `models.default`?"),
        (
            "There is no setting `chat.histori_entries` (in `mlxi.json`, line 3).",
            "Did you mean `chat.history_entries`?",
        ),
    ]


def test_every_impossible_value_is_found() -> None:
    Path("mlxi.toml").write_text('[models]\ndefault = ""\nfolders = 5\n')
    assert [error.message for error in find_problems()] == [
        "The setting `models.default` cannot be `` (in `mlxi.toml`, line 2): it is text that is not empty.",
        "The setting `models.folders` cannot be `5` (in `mlxi.toml`, line 3): it is a list of paths.",
    ]


@pytest.mark.parametrize("text", ["[models\n", '[hub]\ntoken = "hf_secret"\n', '[models]\nx.y.z = 1\n"a.b" = 2\n'])
def test_it_finds_something_wherever_settings_cannot_be_made(text: str) -> None:
    Path("mlxi.toml").write_text(text)
    problems = find_problems()
    assert problems and not any("hf_secret" in str(problem) for problem in problems)
    with pytest.raises(ValueError, match=r"mlxi\.toml"):
        Settings()


def test_a_file_that_is_named_and_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLXI_CONFIG", "/nowhere/config.toml")
    assert [error.message for error in find_problems()] == [
        "`MLXI_CONFIG` names `/nowhere/config.toml`, which is not a file."
    ]
