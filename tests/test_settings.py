"""Where settings come from, which source wins, and how mistakes are answered."""

import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from mlx_integrations.errors import ConfigurationError
from mlx_integrations.settings import ModelSettings, RuntimeSettings, Settings, user_config_path

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
    ],
)
def test_an_unknown_key_is_answered_with_the_nearest_one(
    user_file: Path, values: dict[str, object], suggestion: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings(**values)
    assert caught.value.hint == f"Did you mean `{suggestion}`?"


def test_an_unknown_key_in_a_file_names_the_file(user_file: Path) -> None:
    user_file.write_text("[runtime]\nmax_bach_size = 1\n")
    with pytest.raises(ConfigurationError, match=r"`runtime\.max_bach_size` \(in `.*user\.toml`\)"):
        Settings()


def test_a_misspelt_variable_is_not_ignored(user_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLXI_RUNTIME__MAX_BATCHSIZE", "1")
    with pytest.raises(ConfigurationError, match="Did you mean `MLXI_RUNTIME__MAX_BATCH_SIZE`"):
        Settings()


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
    assert user_config_path({}, "darwin") == plain
    mac = tmp_path / "Library" / "Application Support" / "mlxi" / "config.toml"
    mac.parent.mkdir(parents=True)
    mac.touch()
    assert user_config_path({}, "darwin") == mac


def test_the_example_file_shows_every_setting_with_its_default(user_file: Path) -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    user_file.write_text(text)
    assert Settings() == Settings.model_construct(runtime=RuntimeSettings(), models=ModelSettings()), "all commented"

    lines = [line.removeprefix("# ") if line.startswith("# ") and " = " in line else line for line in text.splitlines()]
    user_file.write_text("\n".join(line for line in lines if not line.startswith("#")))
    shown = tomllib.loads(user_file.read_text())
    assert set(shown["runtime"]) == set(RuntimeSettings.model_fields)
    assert set(shown["models"]) == set(ModelSettings.model_fields)
    for name, field in RuntimeSettings.model_fields.items():
        if field.default is not None:
            assert shown["runtime"][name] == field.default, name
    assert Settings().models.default == "demo"
