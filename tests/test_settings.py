"""Where settings come from, which source wins, and how mistakes are answered."""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from mlx_integrations.errors import ConfigurationError
from mlx_integrations.settings import (
    DEFAULT_PROFILES,
    EmbeddingProfile,
    ModelSettings,
    Settings,
    user_config_path,
)
from mlx_integrations.settings.checks import leaves
from mlx_integrations.settings.sources import SECRETS

EXAMPLE = Path(__file__).parent.parent / "config" / "mlxi.toml"


@pytest.fixture
def user_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty user file, in an empty working directory."""
    path = tmp_path / "user.toml"
    path.touch()
    monkeypatch.setenv("MLXI_CONFIG", str(path))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HOME", "HF_HUB_CACHE", "HF_ENDPOINT", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return path


def test_each_source_wins_over_the_ones_before_it(user_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().runtime.max_batch_size == 32
    user_file.write_text("[runtime]\nmax_batch_size = 1\nmax_queued_requests = 11\n")
    assert Settings().runtime.max_batch_size == 1
    Path("mlxi.toml").write_text("[runtime]\nmax_batch_size = 2\n")
    assert Settings().runtime.max_batch_size == 2
    Path(".env").write_text("MLXI_RUNTIME__MAX_BATCH_SIZE=3\nOTHER_PROGRAM=hello\n")
    assert Settings().runtime.max_batch_size == 3
    monkeypatch.setenv("MLXI_RUNTIME__MAX_BATCH_SIZE", "4")
    assert Settings().runtime.max_batch_size == 4
    strongest = Settings(runtime={"max_batch_size": 5})
    assert strongest.runtime.max_batch_size == 5
    assert strongest.runtime.max_queued_requests == 11, "a stronger source replaces keys, not sections"


def test_the_environment_takes_every_kind_of_value(user_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLXI_RUNTIME__IDLE_UNLOAD_SECONDS", "90.5")
    monkeypatch.setenv("MLXI_RUNTIME__BLAS_PRELOAD", "false")
    monkeypatch.setenv("MLXI_MODELS__FOLDERS", "/models:~/more")
    settings = Settings()
    assert settings.runtime.idle_unload_seconds == 90.5
    assert settings.runtime.blas_preload is False
    assert settings.models.folders == (Path("/models"), Path.home() / "more")


def test_folders_in_a_file_are_a_list(user_file: Path) -> None:
    user_file.write_text('[models]\nfolders = ["~/models", "/srv"]\n')
    assert Settings().models.folders == (Path.home() / "models", Path("/srv"))


def test_profiles_exist_without_being_configured(user_file: Path) -> None:
    embedding = Settings().embedding
    assert tuple(embedding.profiles) == DEFAULT_PROFILES
    for name in DEFAULT_PROFILES:
        assert embedding.profile(name) == EmbeddingProfile(model="minilm-l6-v2")
    assert Settings(embedding={"default": "bge"}).embedding.profile("projects").model == "bge"


def test_profiles_come_from_every_source_key_by_key(user_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user_file.write_text('[embedding.profiles.projects]\nmodel = "bge"\ndimensions = 64\n')
    Path("mlxi.toml").write_text('[embedding.profiles."my notes"]\nmodel = "qwen"\nallow_fallback = true\n')
    monkeypatch.setenv("MLXI_EMBEDDING__PROFILES__PROJECTS__DIMENSIONS", "128")
    monkeypatch.setenv("MLXI_EMBEDDING__PROFILES__USER_PROFILE__MODEL", "nomic")
    embedding = Settings(embedding={"profiles": {"projects": {"allow_fallback": True}}}).embedding
    assert embedding.profile("projects") == EmbeddingProfile(model="bge", dimensions=128, allow_fallback=True)
    assert embedding.profile("my notes") == EmbeddingProfile(model="qwen", allow_fallback=True)
    assert embedding.profile("user_profile") == EmbeddingProfile(model="nomic")


def test_a_profile_from_a_dotenv_file(user_file: Path) -> None:
    Path(".env").write_text("MLXI_EMBEDDING__PROFILES__PROJECTS__MODEL=bge\n")
    assert Settings().embedding.profile("projects").model == "bge"


@pytest.mark.parametrize(("name", "hint"), [("project", "Did you mean `projects`?"), ("x", "There are `projects`, ")])
def test_an_unknown_profile_is_answered_with_those_that_exist(user_file: Path, name: str, hint: str) -> None:
    with pytest.raises(ConfigurationError, match=f"There is no embedding profile `{name}`") as caught:
        Settings().embedding.profile(name)
    assert caught.value.hint.startswith(hint)
    assert f"[embedding.profiles.{name}]" in caught.value.hint


def test_impossible_dimensions_of_a_profile_are_named(user_file: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"`embedding\.profiles\.notes\.dimensions` cannot be `0`"):
        Settings(embedding={"profiles": {"notes": {"dimensions": 0}}})


def test_settings_are_frozen(user_file: Path) -> None:
    settings = Settings()
    with pytest.raises(ValidationError):
        settings.models = ModelSettings(default="other")
    with pytest.raises(ValidationError):
        settings.runtime.max_batch_size = 1


@pytest.mark.parametrize(
    ("values", "suggestion"),
    [
        ({"runtime": {"max_batch": 1}}, "runtime.max_batch_size"),
        ({"max_batch_size": 1}, "runtime.max_batch_size"),
        ({"runtim": {}}, "runtime"),
        ({"models": {"defualt": "demo"}}, "models.default"),
        ({"embedding": {"defualt": "minilm"}}, "embedding.default"),
        ({"embedding": {"profiles": {"notes": {"modle": "minilm"}}}}, "embedding.profiles.notes.model"),
        ({"embedding": {"profile": {}}}, "embedding.profiles.<name>.model"),
    ],
)
def test_an_unknown_key_is_answered_with_the_nearest_one(
    user_file: Path, values: dict[str, object], suggestion: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings(**values)
    assert caught.value.hint == f"Did you mean `{suggestion}`?"


def test_an_unknown_key_in_a_file_names_the_file(user_file: Path) -> None:
    user_file.write_text("# mine\n[runtime]\n\nmax_bach_size = 1\n")
    with pytest.raises(ConfigurationError, match=r"`runtime\.max_bach_size` \(in `.*user\.toml`, line 4\)"):
        Settings()


def test_a_misspelt_variable_is_not_ignored(user_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLXI_RUNTIME__MAX_BATCHSIZE", "1")
    with pytest.raises(ConfigurationError, match="Did you mean `MLXI_RUNTIME__MAX_BATCH_SIZE`"):
        Settings()


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("MLXI_EMBEDDING__PROFILES__NOTES__MODLE", "MLXI_EMBEDDING__PROFILES__NOTES__MODEL"),
        ("MLXI_EMBEDDING__PROFILES__NOTES__MODEL__X", "MLXI_EMBEDDING__PROFILES__NOTES__MODEL"),
        ("MLXI_EMBEDDING__PROFILES", "MLXI_EMBEDDING__PROFILES__<NAME>__MODEL"),
    ],
)
def test_a_misspelt_variable_of_a_profile_is_answered_with_the_profiles_name(
    user_file: Path, monkeypatch: pytest.MonkeyPatch, name: str, suggestion: str
) -> None:
    monkeypatch.setenv(name, "minilm")
    with pytest.raises(ConfigurationError) as caught:
        Settings()
    assert caught.value.hint == f"Did you mean `{suggestion}`?"


def test_a_misspelt_variable_in_a_dotenv_file_is_not_ignored(user_file: Path) -> None:
    Path(".env").write_text("MLXI_RUNTIME__MAX_BATCHSIZE=1\n")
    with pytest.raises(ConfigurationError, match=r"\(in `\.env`\).*Did you mean"):
        Settings()


def test_an_impossible_value_names_the_setting_and_the_value(user_file: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"`runtime\.max_batch_size` cannot be `0`"):
        Settings(runtime={"max_batch_size": 0})


def test_a_broken_file_is_named_with_the_place(user_file: Path) -> None:
    user_file.write_text("[runtime\n")
    with pytest.raises(ConfigurationError, match=r"user\.toml` is not valid TOML: .*line 1"):
        Settings()


def test_a_named_file_must_exist(user_file: Path) -> None:
    user_file.unlink()
    with pytest.raises(ConfigurationError, match="which is not a file"):
        Settings()


def test_the_user_file_follows_the_platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    plain = tmp_path / ".config" / "mlxi" / "config.toml"
    assert user_config_path({}, "linux") == plain
    assert user_config_path({"XDG_CONFIG_HOME": "/x"}, "linux") == Path("/x/mlxi/config.toml")
    assert user_config_path({"MLXI_CONFIG": "~/c.toml"}, "linux") == tmp_path / "c.toml"
    assert user_config_path({}, "darwin") == tmp_path / "Library" / "Application Support" / "mlxi" / "config.toml"
    plain.parent.mkdir(parents=True)
    plain.with_suffix(".json").touch()
    assert user_config_path({}, "darwin") == plain, "what lies in ~/.config stays in use"


def test_the_example_file_shows_every_setting_with_its_default(user_file: Path) -> None:
    defaults = Settings()
    text = EXAMPLE.read_text(encoding="utf-8")
    user_file.write_text(text)
    assert Settings() == defaults, "all commented"

    shown_ones = [line.startswith("# [") or (line.startswith("# ") and " = " in line) for line in text.splitlines()]
    lines = [
        line.removeprefix("# ") if ours else line for line, ours in zip(text.splitlines(), shown_ones, strict=True)
    ]
    user_file.write_text("\n".join(line for line in lines if not line.startswith("#")))
    shown = dict(_flat(tomllib.loads(user_file.read_text())))
    for leaf, field in leaves(Settings):
        examples = ("my-server",) if leaf.startswith("endpoints.") else DEFAULT_PROFILES
        for key in [leaf.replace("<name>", example) for example in examples] if "<name>" in leaf else [leaf]:
            if key in SECRETS:
                assert key not in shown
                continue
            assert key in shown, key
            if field.default is not None and field.default != ():
                assert shown[key] == field.default, key
    assert Settings().models.default == "demo"


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", tuple(value) if isinstance(value, list) else value
