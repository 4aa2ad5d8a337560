"""One setting is changed in a file, and nothing else."""

import json
import os
import stat
from pathlib import Path

import pytest

from mlx_integrations.errors import ConfigurationError
from mlx_integrations.settings import Settings
from mlx_integrations.settings.edit import remove_setting, write_setting

TEXT = """\
# my settings

[runtime]  # how it runs
max_batch_size = 8   # not more

[models]
folders = [
    "~/models",  # at home
]
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "config" / "config.toml"
    path.parent.mkdir()
    path.write_text(TEXT)
    monkeypatch.setenv("MLXI_CONFIG", str(path))
    monkeypatch.chdir(tmp_path)
    return path


def test_comments_and_order_stay(file: Path) -> None:
    assert write_setting(file, "runtime.max_batch_size", "16") == 16
    assert file.read_text() == TEXT.replace("= 8 ", "= 16 ")
    assert Settings().runtime.max_batch_size == 16


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("offline", "yes", True),
        ("runtime.blas_preload", "false", False),
        ("runtime.idle_unload_seconds", "90.5", 90.5),
        ("runtime.memory_budget_bytes", "8_000_000_000", 8_000_000_000),
        ("models.default", "llama-3.2-3b", "llama-3.2-3b"),
        ("models.folders", "~/a:/b", ["~/a", "/b"]),
        ("hub.cache_dir", "~/cache", "~/cache"),
        ("embedding.profiles.notes.dimensions", "64", 64),
    ],
)
def test_values_are_written_as_what_they_are(file: Path, key: str, text: str, value: object) -> None:
    assert write_setting(file, key, text) == value
    Settings()
    assert write_setting(file.with_name("new.json"), key, text) == value
    assert json.loads(file.with_name("new.json").read_text())


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("runtime.max_batch_size", "0", "cannot be `0`"),
        ("runtime.max_batch_size", "many", "cannot be `many`"),
        ("runtime.max_batch", "1", "There is no setting `runtime.max_batch`"),
        ("runtime", "1", "`runtime` is a section"),
        ("hub.token", "hf_secret", "`hub.token` is a secret"),
    ],
)
def test_what_cannot_be_set_is_refused_and_nothing_is_written(file: Path, key: str, text: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        write_setting(file, key, text)
    assert message in caught.value.message
    assert "hf_secret" not in str(caught.value)
    assert file.read_text() == TEXT
    assert [path.name for path in file.parent.iterdir()] == ["config.toml"]


def test_a_setting_of_no_section_goes_before_the_sections(file: Path) -> None:
    write_setting(file, "offline", "true")
    assert Settings().offline
    assert file.read_text().replace("offline = true\n", "").split() == TEXT.split()


def test_a_wrong_value_can_be_put_right(file: Path) -> None:
    file.write_text(TEXT.replace("= 8 ", "= 0 "))
    write_setting(file, "runtime.max_batch_size", "8")
    assert file.read_text() == TEXT


def test_a_file_and_its_folder_are_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "config.toml"
    write_setting(path, "embedding.profiles.notes.model", "minilm-l6-v2")
    assert path.read_text() == '[embedding.profiles.notes]\nmodel = "minilm-l6-v2"\n'


def test_a_setting_is_taken_out(file: Path) -> None:
    assert remove_setting(file, "runtime.max_batch_size")
    assert "max_batch_size" not in file.read_text() and "# my settings" in file.read_text()
    assert not remove_setting(file, "runtime.max_batch_size")
    assert not remove_setting(file, "hub.endpoint")
    assert not remove_setting(file.with_name("other.toml"), "hub.endpoint")


def test_permissions_and_links_stay(file: Path, tmp_path: Path) -> None:
    file.chmod(0o640)
    link = tmp_path / "link.toml"
    link.symlink_to(file)
    write_setting(link, "offline", "true")
    assert link.is_symlink() and stat.S_IMODE(file.stat().st_mode) == 0o640
    assert "offline = true" in file.read_text()


def test_a_disk_that_takes_nothing_leaves_the_old_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space left"):
        write_setting(file, "offline", "true")
    assert file.read_text() == TEXT
    assert [path.name for path in file.parent.iterdir()] == ["config.toml"]
