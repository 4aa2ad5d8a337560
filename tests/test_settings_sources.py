"""Files of both kinds, the Hub's own variables, lines in messages, and where each value comes from."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_integrations.errors import ConfigurationError
from mlx_integrations.settings import Settings, find_origins
from mlx_integrations.settings.checks import allowed_values, leaves
from mlx_integrations.settings.lines import json_lines, toml_lines, variable_lines

CONFIG = Path(__file__).parent.parent / "config"


@pytest.fixture
def user_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty user file in the platform's place, an empty working directory, and no variable of the Hub."""
    monkeypatch.delenv("MLXI_CONFIG")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HOME", "HF_HUB_CACHE", "HF_ENDPOINT", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    path = tmp_path / "config" / "mlxi" / "config.toml"
    path.parent.mkdir(parents=True)
    path.touch()
    return path


def test_json_files_are_read_like_toml_and_are_weaker(user_file: Path) -> None:
    user_file.with_suffix(".json").write_text('{"runtime": {"max_batch_size": 1, "max_queued_requests": 11}}')
    assert Settings().runtime.max_batch_size == 1
    user_file.write_text("[runtime]\nmax_batch_size = 2\n")
    assert (Settings().runtime.max_batch_size, Settings().runtime.max_queued_requests) == (2, 11)
    Path("mlxi.json").write_text('{"runtime": {"max_batch_size": 3}}')
    assert Settings().runtime.max_batch_size == 3
    Path("mlxi.toml").write_text("[runtime]\nmax_batch_size = 4\n")
    assert Settings().runtime.max_batch_size == 4


def test_a_named_file_may_be_json(user_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = user_file.with_name("mine.json")
    named.write_text('{"offline": true}')
    monkeypatch.setenv("MLXI_CONFIG", str(named))
    assert Settings().offline is True


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("mlxi.json", '{"runtime": ', r"`mlxi\.json` is not valid JSON: .*line 1"),
        ("mlxi.json", "[1]", r"`mlxi\.json` is not a JSON object"),
        ("mlxi.toml", "a = \n", r"`mlxi\.toml` is not valid TOML: .*line 1"),
    ],
)
def test_a_broken_file_is_named_with_the_place(user_file: Path, name: str, text: str, message: str) -> None:
    Path(name).write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        Settings()


def test_a_file_that_may_not_be_read_is_named(user_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *args: object, **kwargs: object) -> str:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(ConfigurationError, match=r"config\.toml` cannot be read: Permission denied"):
        Settings()


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("mlxi.toml", "# a\n[runtime]\nmax_batch_size = 0\n", "`0` (in `mlxi.toml`, line 3): it is a whole number of"),
        ("mlxi.toml", '[runtime]\nmax_batch_size = "x"\n', "`x` (in `mlxi.toml`, line 2): it is a whole number of"),
        ("mlxi.toml", "offline = 7\n", "`7` (in `mlxi.toml`, line 1): it is true or false."),
        ("mlxi.toml", '[models]\ndefault = ""\n', "`` (in `mlxi.toml`, line 2): it is text that is not empty."),
        ("mlxi.toml", "[models]\nfolders = [1]\n", "`1` (in `mlxi.toml`, line 2): it is a list of paths."),
        ("mlxi.toml", '[hub]\nendpoint = "x"\n', "it is an address that begins with http:// or https://."),
        ("mlxi.toml", 'runtime = "fast"\n', "`runtime` cannot be `fast` (in `mlxi.toml`, line 1)"),
        ("mlxi.json", '{\n "runtime": {\n  "max_batch_size": 0\n }\n}', "`0` (in `mlxi.json`, line 3)"),
        (".env", "A=1\nexport MLXI_RUNTIME__MAX_BATCH_SIZE=0\n", "`0` (in `.env`, line 2)"),
    ],
)
def test_an_impossible_value_is_told_with_its_line_and_what_is_allowed(
    user_file: Path, file: str, text: str, message: str
) -> None:
    Path(file).write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        Settings()
    assert message in caught.value.message


def test_an_impossible_variable_is_named(user_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLXI_MODELS__CONTEXT_TOKENS", "many")
    with pytest.raises(ConfigurationError, match=r"`many` \(in `MLXI_MODELS__CONTEXT_TOKENS`\): it is a whole number"):
        Settings()
    monkeypatch.setenv("MLXI_MODELS__CONTEXT_TOKENS", "")
    assert Settings().models.context_tokens == 8192, "an empty variable counts as not set"
    monkeypatch.setenv("MLXI_MODELS", "{broken")
    with pytest.raises(ConfigurationError, match="A variable cannot be read"):
        Settings()


def test_the_hubs_own_variables_count_between_ours_and_the_files(
    user_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user_file.write_text('offline = false\n[hub]\ncache_dir = "~/mine"\n')
    assert Settings().hub.cache_dir == Path.home() / "mine"
    monkeypatch.setenv("HF_HOME", "/hf")
    assert Settings().hub.cache_dir == Path("/hf/hub")
    monkeypatch.setenv("HF_HUB_CACHE", "/cache")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    settings = Settings()
    assert (settings.offline, settings.hub.cache_dir) == (True, Path("/cache"))
    assert settings.hub.endpoint == "https://mirror.example"
    assert settings.hub.token is not None and settings.hub.token.get_secret_value() == "hf_secret"
    assert "hf_secret" not in repr(settings)
    monkeypatch.setenv("MLXI_HUB__ENDPOINT", "https://other.example")
    monkeypatch.setenv("MLXI_OFFLINE", "0")
    assert (Settings().hub.endpoint, Settings().offline) == ("https://other.example", False)


@pytest.mark.parametrize(("value", "offline"), [("1", True), ("yes", True), ("0", False), ("off", False), ("", False)])
def test_offline_is_what_the_hub_takes_it_for(
    user_file: Path, monkeypatch: pytest.MonkeyPatch, value: str, offline: bool
) -> None:
    monkeypatch.setenv("TRANSFORMERS_OFFLINE", value)
    assert Settings().offline is offline


@pytest.mark.parametrize("name", ["mlxi.toml", "mlxi.json"])
def test_a_token_in_a_file_is_refused_without_being_shown(user_file: Path, name: str) -> None:
    Path(name).write_text(
        '[hub]\ntoken = "hf_secret"\n' if name.endswith("toml") else '{"hub": {"token": "hf_secret"}}'
    )
    with pytest.raises(ConfigurationError, match=r"`hub\.token` cannot be set in `mlxi\.") as caught:
        Settings()
    assert "hf_secret" not in str(caught.value)
    assert "HF_TOKEN" in caught.value.hint


def test_a_token_of_the_wrong_kind_is_not_shown(user_file: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings(hub={"token": ["hf_secret"]})
    assert "hf_secret" not in str(caught.value)


def test_each_value_is_traced_to_where_it_stands(user_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user_file.write_text('[models]\n\ndefault = "a"\n[embedding.profiles."my notes"]\nmodel = "b"\n')
    Path("mlxi.toml").write_text("runtime.max_batch_size = 4\n[hub]\nendpoint = 'https://x'\n")
    Path(".env").write_text("\nMLXI_RUNTIME__MAX_QUEUED_REQUESTS=9\n")
    monkeypatch.setenv("MLXI_CHAT", '{"history_entries": 3}')
    monkeypatch.setenv("HF_HOME", "/hf")
    monkeypatch.setenv("MLXI_HUB__ENDPOINT", "https://y")
    found = {key: str(origin) for key, origin in find_origins(offline=True).items()}
    assert found == {
        "offline": "argument",
        "hub.endpoint": "MLXI_HUB__ENDPOINT",
        "hub.cache_dir": "HF_HOME",
        "chat.history_entries": "MLXI_CHAT",
        "runtime.max_queued_requests": ".env:2",
        "runtime.max_batch_size": "mlxi.toml:1",
        "models.default": f"{user_file}:3",
        "embedding.profiles.my notes.model": f"{user_file}:5",
    }


def test_the_line_of_every_kind_of_toml_statement_is_found() -> None:
    text = """\
# comment = 1
top = 1
[a]
b = [
  1,
]
"quoted key" = '''
c = 2
'''
d = { e = 1, f = { g = 2 } }

[a.h."i.j"]  # comment
k.l = 1
[[m]]
n = 1
[[m]]
n = 2
[[a.o]]
p = 3
"""
    assert toml_lines(text) == {
        "top": 2,
        "a": 3,
        "a.b": 4,
        "a.quoted key": 7,
        "a.d": 10,
        "a.d.e": 10,
        "a.d.f": 10,
        "a.d.f.g": 10,
        "a.h.i.j": 12,
        "a.h.i.j.k": 13,
        "a.h.i.j.k.l": 13,
        "m": 14,
        "m.0": 14,
        "m.0.n": 15,
        "m.1": 16,
        "m.1.n": 17,
        "a.o": 18,
        "a.o.0": 18,
        "a.o.0.p": 19,
    }


_NAMES = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=6)


@given(st.dictionaries(_NAMES, st.lists(_NAMES, max_size=3, unique=True), max_size=5), st.integers(0, 3))
def test_lines_are_found_wherever_blank_lines_and_comments_are(sections: dict[str, list[str]], gap: int) -> None:
    lines: list[str] = []
    expected = {}
    for section, names in sections.items():
        lines += ["# x = [", ""] * gap + [f"[{section}]"]
        expected[section] = len(lines)
        for name in names:
            lines += [""] * gap + [f'{name} = """', "y = 1", '"""']
            expected[f"{section}.{name}"] = len(lines) - 2
    assert toml_lines("\n".join(lines)) == expected


def test_the_line_of_every_json_key_is_found() -> None:
    text = '{\n "a": {"b": [\n  {"c": 1}\n ], "d\\n": {}},\n\n "e": "x: {",\n "f": {\n  "g": null}}'
    assert json_lines(text) == {"a": 2, "a.b": 2, "a.d\n": 4, "e": 6, "f": 7, "f.g": 8}


def test_the_line_of_every_variable_is_found() -> None:
    assert variable_lines("# A=1\nA=1\n  export b = 2\n\nC=\n") == {"A": 2, "B": 3, "C": 5}


def test_every_setting_says_in_words_what_it_can_be() -> None:
    said = {name: allowed_values(field) for name, field in leaves(Settings)}
    assert set(said.values()) <= {
        "true or false",
        "text",
        "text that is not empty",
        "a path",
        "a list of paths",
        "a list of names",
        "a list of `card`, `email`, `iban`, `ip`, `phone` and `secret`",
        "`local_only`, `prefer_local`, `prefer_cloud` or `cloud_only`",
        "`live` or `complete`",
        "`compatible`, `openai`, `openrouter`, `gemini`, `anthropic`, `ollama`, `lmstudio` or `mlx-lm`",
        "the name of a variable",
        "a number above 0",
        "a number of at least 0",
        "a whole number above 0",
        "a whole number of at least 0",
        "a whole number of at least 1",
        "an address that begins with http:// or https://",
    }, said


MANIFESTS = {"migrate-stores.toml"}  # no settings; the tests of migrations read it


@pytest.mark.parametrize(
    "path", sorted(path for path in CONFIG.glob("*.toml") if path.name not in MANIFESTS), ids=lambda path: path.name
)
def test_an_example_file_is_valid(user_file: Path, monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    monkeypatch.setenv("MLXI_CONFIG", str(path))
    settings = Settings()
    if path.name == "privacy-first.toml":
        assert settings.offline
        assert (settings.router.mode, settings.router.allow_cloud) == ("local_only", False)
        assert not any(profile.allow_fallback for profile in settings.embedding.profiles.values())
    elif path.name != "mlxi.toml":
        assert find_origins(), "an example sets something"
