"""Each check of `mlxi doctor` on what it is for: made here where that can be, and otherwise handed in as a figure."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from mlx_integrations.cli.diagnosis.checks import CHECKS
from mlx_integrations.cli.diagnosis.finding import Finding, Told, worst
from mlx_integrations.cli.diagnosis.masking import masked, secrets_of
from mlx_integrations.cli.diagnosis.running import run_checks
from mlx_integrations.cli.diagnosis.screen import finding_lines, summary
from mlx_integrations.cli.diagnosis.surroundings import Distribution, Surroundings, find_distribution
from mlx_integrations.cli.trial import Trial, trial_command
from mlx_integrations.manager import ModelManager
from mlx_integrations.registry import ModelRegistry
from mlx_integrations.runtime.architectures import describe_support
from mlx_integrations.settings import Origin, Settings
from mlx_integrations.types import Machine
from tests.cli.conftest import GIB, MACHINE
from tests.cli.screens import end, plain, run, spawn
from tests.hub import DEMO_FOLDER, LoopbackHub, go_online

REPOSITORY = "test-org/tiny-4bit"
NOW = 1_800_000_000.0
DAY = 86_400
Around = Callable[..., Surroundings]


def telling(*steps: dict[str, Any], then: str = "") -> Trial:
    """A trial that tells what a machine which is not here would tell."""
    lines = "".join(json.dumps(step) + "\n" for step in steps)
    code = f"import os, sys; sys.stdout.write({lines!r}); sys.stdout.flush(); {then or 'pass'}"
    return Trial([*trial_command("", {})[:1], "-c", code], limit_seconds=20.0)


def of_machine(machine: Machine, **told: Any) -> dict[str, Any]:
    return {"step": "machine", "machine": asdict(machine), "blas": "not needed", **told}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    with LoopbackHub() as hub:
        go_online(monkeypatch, hub)
        hub.publish_folder(REPOSITORY, DEMO_FOLDER)
        yield hub


@pytest.fixture
def around(tmp_path: Path) -> Iterator[Around]:
    """Surroundings in which all is well, but for what a test says."""
    trials: list[Trial] = []

    def make(*, hub: LoopbackHub | None = None, trial: Trial | None = None, **changes: Any) -> Surroundings:
        settings = changes.pop("settings", Settings())
        trials.append((trial or telling(of_machine(MACHINE))).__enter__())
        manager = ModelManager(
            cache_dir=tmp_path / "cache",
            endpoint=hub.endpoint if hub else "http://127.0.0.1:9",
            token=changes.pop("token", None),
            offline=settings.offline,
            describe_support=describe_support,
        )
        made = Surroundings(
            system="linux",
            architecture="x86_64",
            is_translated=False,
            macos_version="",
            python_version="3.12.4",
            executable="/usr/bin/python",
            environ={},
            distribution=find_distribution,
            settings=settings,
            trial=trials[-1],
            registry=lambda: ModelRegistry(entries=(), updated="2027-01-01", source="embedded"),
            refreshed_at=lambda: (None, ""),
            manager=lambda: manager,
            fit=lambda model, machine: None,
            free_bytes=lambda path: 50 * 10**9,
            exists=lambda path: False,
            now=NOW,
        )
        return replace(made, **changes)

    yield make
    for trial in trials:
        trial.__exit__(None, None, None)


def look(name: str, surroundings: Surroundings) -> list[Finding]:
    """What one check finds."""
    checks = [check for check in CHECKS if check.id == name]
    assert checks, name
    return [told.finding for told in run_checks(surroundings, checks)]


def one(name: str, surroundings: Surroundings) -> Finding:
    (finding,) = look(name, surroundings)
    return finding


def test_every_check_has_an_id_of_its_own() -> None:
    assert len({check.id for check in CHECKS}) == len(CHECKS)


# Python and packages


@pytest.mark.parametrize(
    ("changes", "status", "said"),
    [
        ({"system": "linux"}, "ok", "x86_64, Linux"),
        ({"system": "darwin", "architecture": "arm64", "macos_version": "15.1"}, "ok", "arm64, macOS 15.1"),
        ({"system": "darwin", "is_translated": True}, "fail", "Rosetta"),
        ({"system": "darwin", "architecture": "x86_64"}, "fail", "Intel"),
        ({"system": "darwin", "architecture": "arm64", "macos_version": "13.6"}, "fail", "macOS 14 or newer"),
        ({"system": "win32"}, "fail", "Apple Silicon and on Linux"),
    ],
)
def test_what_python_was_built_for(around: Around, changes: dict[str, Any], status: str, said: str) -> None:
    found = one("python.architecture", around(**changes))
    assert (found.status, said in found.text) == (status, True)


def test_an_old_python_is_told_with_the_line_that_brings_a_newer_one(around: Around) -> None:
    found = one("python.version", around(python_version="3.10.2"))
    assert (found.status, "uv venv --python 3.12" in found.repair) == ("fail", True)


def test_rosetta_is_repaired_with_a_python_for_arm(around: Around) -> None:
    found = one("python.architecture", around(system="darwin", is_translated=True, architecture="x86_64"))
    assert found.repair.endswith("uv venv --python cpython-3.12-macos-aarch64")


def table_of(**changes: Distribution | None) -> Callable[[str], Distribution | None]:
    """The packages that are installed here, with some of them different."""
    named = {name.replace("_", "-"): found for name, found in changes.items()}
    return lambda name: named[name] if name in named else find_distribution(name)


@pytest.mark.parametrize(
    ("check", "changes", "status", "said", "repair"),
    [
        ("packages.mlx", {}, "ok", "mlx-lm 0.32", ""),
        ("packages.mlx", {"mlx_lm": Distribution(version="0.29.0")}, "fail", "mlx-lm 0.29.0: ", 'pip install "mlx-lm'),
        ("packages.mlx", {"mlx_cpu": None}, "fail", "nothing to compute with", "mlx-integrations[cpu]"),
        ("packages.mlx", {"mlx": None, "mlx_cpu": None}, "fail", "mlx is missing", "mlx-integrations[cpu]"),
        (
            "packages.hub",
            {"huggingface_hub": Distribution(version="1.9")},
            "fail",
            "1.9: ",
            "huggingface-hub<3",
        ),
        ("packages.langchain", {"langchain_core": None}, "skip", "not installed", "mlx-integrations[langchain]"),
        ("packages.langchain", {"langchain_core": Distribution(version="0.3.1")}, "fail", "0.3.1: ", "langchain-core"),
        ("packages.llama-index", {"llama_index_core": Distribution(version="0.13")}, "fail", "0.13: ", "<0.15"),
        ("packages.others", {"rich": None}, "fail", "rich is missing", 'pip install "rich'),
    ],
)
@pytest.mark.skipif(find_distribution("mlx-cpu") is None, reason="the table is that of a machine with MLX for CPUs")
def test_versions_that_do_not_belong_together(
    around: Around, check: str, changes: dict[str, Any], status: str, said: str, repair: str
) -> None:
    found = look(check, around(distribution=table_of(**changes)))
    assert worst(found) == status
    assert any(said in one.text and repair in one.repair for one in found), found


# Machine


def test_a_process_that_dies_with_mlx_is_a_finding(around: Around) -> None:
    found = one("machine.backend", around(trial=telling(then="os.kill(os.getpid(), 11)")))
    assert (found.status, "SIGSEGV" in found.text) == ("fail", True)
    assert "pip install" in found.repair


def test_an_import_that_fails_is_told_in_its_own_words(around: Around) -> None:
    told = of_machine(MACHINE, import_error="ImportError: libmlx.so: cannot open shared object file")
    found = one("machine.backend", around(trial=telling(told)))
    assert (found.status, "libmlx.so" in found.text) == ("fail", True)


CPU = replace(MACHINE, backend="cpu", device_name="AMD EPYC", usable_bytes=None, available_bytes=12 * GIB)


@pytest.mark.parametrize(
    ("machine", "changes", "status", "repair"),
    [
        (MACHINE, {}, "ok", ""),
        (replace(MACHINE, backend="cuda", device_name="NVIDIA H100"), {}, "ok", ""),
        (CPU, {}, "ok", ""),
        (CPU, {"exists": lambda path: True}, "warn", "mlx-integrations[cuda13]"),
        (CPU, {"system": "darwin"}, "warn", "mlx-metal"),
    ],
)
def test_what_mlx_computes_on(
    around: Around, machine: Machine, changes: dict[str, Any], status: str, repair: str
) -> None:
    found = one("machine.backend", around(trial=telling(of_machine(machine)), **changes))
    assert (found.status, repair in found.repair) == (status, True)


@pytest.mark.parametrize(
    ("machine", "budget", "status", "said"),
    [
        (MACHINE, None, "ok", "models may use"),
        (replace(MACHINE, memory_bytes=64 * GIB, usable_bytes=48 * GIB), None, "ok", "iogpu.wired_limit_mb=52428"),
        (replace(MACHINE, usable_bytes=15 * GIB), None, "warn", "little is left for macOS"),
        (CPU, 64 * GIB, "warn", "more than there is"),
        (replace(CPU, available_bytes=GIB // 4), None, "warn", "256 MiB free"),
    ],
)
def test_memory(around: Around, machine: Machine, budget: int | None, status: str, said: str) -> None:
    settings = Settings(runtime={"memory_budget_bytes": budget})
    found = one("machine.memory", around(trial=telling(of_machine(machine)), settings=settings))
    assert (found.status, said in found.text) == (status, True), found
    assert bool(found.repair) == (status == "warn")


@pytest.mark.parametrize(
    ("blas", "status", "repair"),
    [("preloaded", "ok", ""), ("off", "warn", "config unset runtime.blas_preload"), ("absent", "warn", "[cpu]")],
)
def test_a_slow_blas(around: Around, blas: str, status: str, repair: str) -> None:
    found = one("machine.blas", around(trial=telling(of_machine(CPU, blas=blas))))
    assert (found.status, repair in found.repair) == (status, True)


# Disk


@pytest.mark.parametrize(("free", "status"), [(10**10, "ok"), (10**10 - 1, "warn"), (10**9 - 1, "fail")])
def test_a_disk_that_fills(around: Around, free: int, status: str) -> None:
    found = one("cache.disk", around(free_bytes=lambda path: free))
    assert found.status == status
    assert ("mlxi models rm" in found.repair) == (status != "ok")


def test_a_cache_that_is_a_file(around: Around, tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    found = one("cache.folder", around())
    assert (found.status, "HF_HUB_CACHE" in found.repair) == ("fail", True)


def test_a_folder_in_the_cache_that_somebody_made_with_sudo(around: Around, tmp_path: Path) -> None:
    closed = tmp_path / "cache" / "models--a--b"
    closed.mkdir(parents=True)
    found = one("cache.folder", around(may=lambda path, mode: not (path == closed and mode & os.W_OK)))
    assert (found.status, f'sudo chown -R "$USER" {closed}' in found.repair) == ("warn", True)


def test_a_download_that_was_cut_short_is_told_with_what_goes_on_with_it(
    around: Around, hub: LoopbackHub, tmp_path: Path
) -> None:
    surroundings = around(hub=hub)
    assert (one("cache.partials", surroundings).text, one("cache.models", surroundings).status) == ("none", "ok")
    manager = surroundings.manager()

    def stop(progress: Any) -> None:
        if progress.done_bytes > 2_000_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        manager.pull(REPOSITORY, on_progress=stop)
    left, models = one("cache.partials", surroundings), one("cache.models", surroundings)
    assert (left.status, "mlxi models prune" in left.repair) == ("warn", True)
    assert f"mlxi models pull {REPOSITORY}" in left.repair
    assert (models.status, models.repair) == ("warn", f"mlxi models pull {REPOSITORY}")
    manager.pull(REPOSITORY)
    assert (one("cache.partials", surroundings).status, one("cache.models", surroundings).status) == ("ok", "ok")


# Network


def test_a_network_that_is_switched_off_names_who_did_it(around: Around) -> None:
    origins = {"offline": Origin(kind="variable", place="MLXI_OFFLINE")}
    surroundings = around(settings=Settings(offline=True), origins=origins)
    assert one("network.offline", surroundings).text == "switched off by MLXI_OFFLINE"
    assert one("network.hub", surroundings).status == "skip"


def test_a_hub_that_answers_and_one_that_does_not(around: Around, hub: LoopbackHub) -> None:
    assert one("network.hub", around(hub=hub)).status == "ok"
    refused = one("network.hub", around())
    assert (refused.status, "127.0.0.1:9 cannot be reached" in refused.text) == ("fail", True)
    assert "HF_ENDPOINT" in refused.repair


@pytest.mark.parametrize(("status", "expected"), [(401, "hf auth login"), (503, "Try later")])
def test_a_hub_that_refuses(around: Around, hub: LoopbackHub, status: int, expected: str) -> None:
    hub.fail("*", status=status, times=10)
    found = one("network.hub", around(hub=hub, token="hf_secret"))
    assert (found.status, found.repair) == ("warn", expected)


def test_a_token_is_told_of_and_never_told(around: Around) -> None:
    found = one("network.token", around(token="hf_secret"))
    assert found.facts["has_token"] is True
    assert "hf_secret" not in str(found)


@pytest.mark.parametrize(
    ("url", "fetched_at", "failure", "status"),
    [
        ("https://example.org/models.json", NOW - DAY, "", "ok"),
        ("https://example.org/models.json", NOW - 5 * DAY, "", "warn"),
        ("https://example.org/models.json", None, "", "warn"),
        ("https://example.org/models.json", NOW - DAY, "it answers with 404", "warn"),
        (None, None, "", "ok"),
    ],
)
def test_the_age_of_the_list_of_models(
    around: Around, url: str | None, fetched_at: float | None, failure: str, status: str
) -> None:
    settings = Settings(registry={"url": url}, offline=False)
    found = one("registry", around(settings=settings, refreshed_at=lambda: (fetched_at, failure)))
    assert (found.status, failure in found.text) == (status, True)


def test_an_embedded_list_that_is_old_asks_for_a_newer_version(around: Around) -> None:
    old = ModelRegistry(entries=(), updated="2025-01-01", source="embedded")
    found = one("registry", around(registry=lambda: old))
    assert (found.status, found.repair) == ("warn", "pip install -U mlx-integrations")


# Settings


def test_a_default_model_that_is_not_here(around: Around) -> None:
    settings = Settings(models={"default": "nobody/nothing"}, embedding={"default": "demo"})
    chat = one("config.chat", around(settings=settings))
    assert (chat.status, "nobody/nothing is not on this machine" in chat.text) == ("fail", True)
    assert chat.repair
    embedding = one("config.embedding", around(settings=settings))
    assert (embedding.status, embedding.text) == ("fail", "demo is a chat model")
    assert embedding.repair == "mlxi setup"


# Running them


def test_a_check_that_raises_or_hangs_keeps_no_other_from_being_told(around: Around) -> None:
    def hang(surroundings: Surroundings) -> Finding:
        import threading

        threading.Event().wait(30)
        return Finding(status="ok", text="never")

    def fall(surroundings: Surroundings) -> Finding:
        raise ZeroDivisionError("by zero")

    checks = [replace(CHECKS[0], id="a", look=hang), replace(CHECKS[0], id="b", look=fall), CHECKS[0]]
    told = list(run_checks(around(), checks, limit_seconds=0.2))
    assert [(one.id, one.finding.status) for one in told] == [("a", "fail"), ("b", "fail"), (CHECKS[0].id, "ok")]
    assert "by zero" in told[1].finding.text


def test_secrets_do_not_get_into_a_report() -> None:
    secrets = secrets_of({"HF_TOKEN": "hf_abcdefgh", "OPENAI_API_KEY": "sk-123456", "PATH": "/usr/bin"})
    value = {"a": ["Bearer hf_abcdefgh", "https://me:word@host/x?token=deep&a=1"], "b": "/home/me/models, /home/mea"}
    assert masked(value, secrets, "/home/me") == {
        "a": ["Bearer ********", "https://********@host/x?token=********&a=1"],
        "b": "~/models, /home/mea",
    }


def test_what_repairs_something_is_never_cut_into_lines() -> None:
    finding = Finding(status="fail", text="a long text " * 10, repair="mlxi models pull " + "x" * 100)
    told = Told(id="x", group="X", title="thing", finding=finding)
    for width in (40, 80):
        lines = ["".join(text for text, _ in line) for line in finding_lines(told, width)]
        assert lines[0].startswith("  FAIL  ")
        assert max(map(len, lines[:-1])) <= width
        assert lines[-1].endswith(finding.repair)
    assert summary([told], 1.25)[0][0] == "0 OK, 1 to repair, in 1.2 s."


# The whole command


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "mlxi").mkdir()
    return tmp_path


def test_all_is_well_here(hub: LoopbackHub, home: Path) -> None:
    secrets = {"HF_TOKEN": "hf_loopback", "OPENAI_API_KEY": "sk-1234567"}
    done = run(hub, home, "doctor", "--json", XDG_CONFIG_HOME=str(home), **secrets)
    report = json.loads(done.stdout)
    assert (done.returncode, report["status"] in ("ok", "warn")) == (0, True), report
    assert {check.id for check in CHECKS} == {found["id"] for found in report["checks"]}
    trial = next(found for found in report["checks"] if found["id"] == "trial.chat")
    assert trial["facts"]["completion_tokens"] == 20
    assert "hf_loopback" not in done.stdout and "sk-1234567" not in done.stdout


def test_a_broken_file_and_a_secret_in_it_are_told_and_end_with_one(hub: LoopbackHub, home: Path) -> None:
    (home / "mlxi" / "config.toml").write_text('[hub]\ntoken = "hf_in_the_open"\n\n[models]\ndefalt = "x"\n')
    done = run(hub, home, "doctor", "--offline", "--quiet", XDG_CONFIG_HOME=str(home), MLXI_MODEL__DEFAULT="y")
    assert done.returncode == 1
    assert "to repair" in done.stdout
    assert "config.toml" in done.stdout and "defalt" in done.stdout and "default" in done.stdout
    assert "hf_in_the_open" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    (home / "mlxi" / "config.toml").write_text("[models\n")
    broken = run(hub, home, "doctor", "--offline", "--json", XDG_CONFIG_HOME=str(home))
    found = [one for one in json.loads(broken.stdout)["checks"] if one["id"] == "config"]
    assert (broken.returncode, found[0]["status"], "config.toml" in found[0]["text"]) == (1, "fail", True)


def test_it_fits_a_narrow_terminal_and_a_dumb_one(hub: LoopbackHub, home: Path) -> None:
    child = spawn(hub, home, "doctor", "--offline", columns=40, TERM="dumb", XDG_CONFIG_HOME=str(home))
    code, said = end(child)
    assert (code, "\x1b" in said) == (0, False)
    text = [line for line in plain(said).splitlines() if "→" not in line and "/" not in line]
    assert [line for line in text if len(line) > 40] == []
