"""`[router]`: what can be set, what is refused and where it stands, and what a router makes of it."""

import json
from pathlib import Path
from typing import get_args

import pytest

from mlx_integrations.errors import ConfigurationError
from mlx_integrations.router.candidates import Candidate
from mlx_integrations.router.configured import policy_from
from mlx_integrations.router.decide import decide
from mlx_integrations.router.facts import TASKS, RequestFacts
from mlx_integrations.router.policy import DEFAULT_DETECTORS, DETECTORS, Deadlines, Guarantee, Mode, Policy
from mlx_integrations.settings import RouterSettings, Settings
from mlx_integrations.settings.edit import write_setting
from mlx_integrations.settings.sections import RouterTasks

CONFIG = Path(__file__).parent.parent / "config"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty configuration file, the only one there is."""
    path = tmp_path / "user.toml"
    path.touch()
    monkeypatch.setenv("MLXI_CONFIG", str(path))
    monkeypatch.chdir(tmp_path)
    return path


def test_settings_and_policy_know_the_same_words() -> None:
    fields = RouterSettings.model_fields
    assert get_args(fields["mode"].annotation) == get_args(Mode)
    assert get_args(fields["guarantee"].annotation) == get_args(Guarantee)
    assert get_args(get_args(fields["detectors"].annotation)[0]) == DETECTORS
    assert tuple(RouterTasks.model_fields) == TASKS


def test_settings_and_policy_have_the_same_defaults(file: Path) -> None:
    defaults = policy_from(Settings(offline=False))
    assert defaults == Policy(private_profiles=frozenset({"projects", "user_profile"}))
    assert RouterSettings().detectors == DEFAULT_DETECTORS


def test_everything_that_is_set_becomes_policy(file: Path) -> None:
    file.write_text("""
offline = true
[embedding.profiles.projects]
allow_fallback = true
[router]
allow_cloud = true
mode = "prefer_cloud"
order = ["b", "a"]
guarantee = "complete"
hold_tokens = 3
continue_text = true
first_token_seconds = 1.5
between_tokens_seconds = 2
total_seconds = 30
budget_usd = 0.5
detectors = ["email"]
private_tags = ["hr"]
private_words = ["Heron"]
private_patterns = ["CASE-[0-9]{6}"]
[router.tasks]
code = ["a"]
""")
    assert policy_from(Settings(), ("a", "b")) == Policy(
        mode="prefer_cloud",
        allow_cloud=True,
        is_offline=True,
        deadlines=Deadlines(first_token=1.5, between_tokens=2.0, total=30.0),
        guarantee="complete",
        hold_tokens=3,
        continue_text=True,
        tasks={"code": ("a",)},
        order=("b", "a"),
        private_tags=frozenset({"hr"}),
        private_profiles=frozenset({"user_profile"}),
        detectors=("email",),
        private_words=("Heron",),
        private_patterns=("CASE-[0-9]{6}",),
        budget_usd=0.5,
    )


def test_variables_and_the_command_line_take_lists_with_commas_or_as_json(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLXI_ROUTER__PRIVATE_TAGS", "hr, legal")
    monkeypatch.setenv("MLXI_ROUTER__DETECTORS", "email")
    monkeypatch.setenv("MLXI_ROUTER__TASKS__CODE", "demo,other")
    monkeypatch.setenv("MLXI_ROUTER__PRIVATE_PATTERNS", '["a{1,2}"]')
    router = Settings().router
    assert (router.private_tags, router.detectors) == (("hr", "legal"), ("email",))
    assert (router.tasks.code, router.private_patterns) == (("demo", "other"), ("a{1,2}",))
    assert write_setting(file, "router.tasks.chat", "demo, other") == ["demo", "other"]
    assert write_setting(file, "router.private_words", '["a,b"]') == ["a,b"]
    assert (Settings().router.tasks.chat, Settings().router.private_words) == (("demo", "other"), ("a,b",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[router]\nmode = "local"\n', "`router.mode` cannot be `local` (in `{}`, line 2): it is `local_only`, "),
        ('[router]\nmode = "cloud_only"\n', "line 2): it contradicts `router.allow_cloud`, which is false."),
        ('[router]\nallow_cloud = false\nmode = "prefer_cloud"\n', "line 3): it contradicts `router.allow_cloud`"),
        ("[router]\n\ntotal_seconds = -1\n", "`router.total_seconds` cannot be `-1` (in `{}`, line 3)"),
        ("[router]\nbudget_usd = -0.5\n", "`router.budget_usd` cannot be `-0.5` (in `{}`, line 2)"),
        ('[router]\ndetectors = ["emial"]\n', "did you mean `email`."),
        ('[router]\nprivate_patterns = ["("]\n', "line 2): it is a list of regular expressions (missing )"),
    ],
)
def test_what_cannot_be_is_refused_with_its_line(file: Path, text: str, message: str) -> None:
    file.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        Settings()
    assert message.format(file) in str(caught.value)


def test_an_unknown_task_is_refused_with_the_nearest(file: Path) -> None:
    file.write_text('[router.tasks]\ncoding = ["demo"]\n')
    with pytest.raises(ConfigurationError, match="line 2") as caught:
        Settings()
    assert caught.value.hint == "Did you mean `router.tasks.code`?"


def test_a_candidate_that_is_not_there_is_refused_with_its_line_and_the_nearest(file: Path) -> None:
    file.write_text('[router]\norder = ["demo"]\n[router.tasks]\ncode = ["dmeo"]\n')
    with pytest.raises(ConfigurationError) as caught:
        policy_from(Settings(), ("demo", "cloud"))
    assert str(caught.value) == (
        f"The candidate `dmeo` in `router.tasks.code` does not exist (in `{file}`, line 4). Did you mean `demo`?"
    )
    with pytest.raises(ConfigurationError, match=r"`x` in `router\.order` does not exist\."):
        policy_from(Settings(router={"order": ["x"]}), ("demo",))


def test_the_example_decides_as_it_says(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    monkeypatch.setenv("MLXI_CONFIG", str(CONFIG / "router.toml"))
    names = ("llama-3.2-3b", "studio", "openai")
    policy = policy_from(Settings(offline=False), names)
    places = dict(zip(names, ("in-process", "listed", "remote"), strict=True))
    candidates = [Candidate(name=name, location=place) for name, place in places.items()]  # type: ignore[arg-type]

    def order(**facts: object) -> tuple[str, ...]:
        return decide(RequestFacts(text_bytes=10, **facts), candidates, {}, policy).order  # type: ignore[arg-type]

    assert order() == ("llama-3.2-3b", "studio", "openai")
    assert order(task="code") == ("studio", "openai", "llama-3.2-3b")
    assert order(task="reasoning")[0] == "openai"
    assert order(task="reasoning", private_because=("x",)) == ("llama-3.2-3b", "studio")


def test_settings_of_routers_can_be_json_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "user.json"
    path.write_text(json.dumps({"router": {"tasks": {"code": ["demo"]}}}))
    monkeypatch.setenv("MLXI_CONFIG", str(path))
    assert Settings().router.tasks.code == ("demo",)
