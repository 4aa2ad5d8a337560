"""`mlxi models` and `mlxi estimate`, on a real manager and a Hub on this machine."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mlx_integrations.cli.exit_codes import ExitCode
from tests.cli.conftest import GIB, MACHINE, REPOSITORY, Shell, parts_of
from tests.hub import DEMO_FOLDER


@pytest.fixture
def pulled(shell: Shell) -> Shell:
    assert shell("models", "pull", "tiny") == ExitCode.DONE
    return shell


def test_a_pull_shows_its_plan_and_prints_the_folder(shell: Shell) -> None:
    assert shell("models", "pull", "tiny") == 0
    path = Path(shell.out.strip())
    assert (path / "model.safetensors").read_bytes() == (DEMO_FOLDER / "model.safetensors").read_bytes()
    assert shell.err.splitlines()[0].startswith(f"{REPOSITORY} at commit ")
    for expected in ("  download  5.7 MB in 9 files", "free", "weights 5.4 MiB", "fits: models may take 11.0 GiB"):
        assert expected in shell.err
    assert "every file is as the Hub promised" in shell.err
    assert shell("models", "pull", REPOSITORY, "--json") == 0
    assert json.loads(shell.out)["transferred_bytes"] == 0
    assert "nothing: all 9 files are here" in shell.err


def test_a_dry_run_asks_for_no_weights(shell: Shell) -> None:
    assert shell("models", "pull", "tiny", "--dry-run", "--json") == 0
    plan = json.loads(shell.out)
    assert (plan["repo_id"], plan["memory"]["verdict"]) == (REPOSITORY, "fits")
    assert plan["missing_bytes"] == plan["total_bytes"] == sum(file["size_bytes"] for file in plan["files"])
    assert shell.hub.downloads("*.safetensors") == []
    assert not (shell.folder / "cache").exists()


def test_a_model_that_does_not_fit_is_refused_before_the_download(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell.parts = parts_of(shell.hub, shell.folder, replace(MACHINE, usable_bytes=GIB // 1024))
    assert shell("models", "pull", "tiny") == ExitCode.DOES_NOT_FIT
    assert f"mlxi: `{REPOSITORY}` needs " in shell.err
    assert "--force" in shell.err.splitlines()[-1]
    assert shell.hub.downloads("*.safetensors") == []
    monkeypatch.setenv("MLXI_FORCE", "1")
    assert shell("models", "pull", "tiny") == 0
    monkeypatch.delenv("MLXI_FORCE")
    assert shell("models", "rm", "tiny", "--yes") == 0
    assert shell("models", "pull", "tiny", "--force") == 0


def test_a_model_without_code_is_refused_before_the_download(shell: Shell) -> None:
    shell.hub.publish("test-org/odd", {"config.json": b'{"model_type": "odd"}', "model.safetensors": b"1234"})
    assert shell("models", "pull", "test-org/odd") == ExitCode.FAILED
    assert "runs      no: " in shell.err
    assert "hint: " in shell.err
    assert shell.hub.downloads("*.safetensors") == []


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (("models", "pull", "test-org/nothing"), ExitCode.NOT_FOUND),
        (("models", "pull", "tiny", "--revision", "nothing"), ExitCode.NOT_FOUND),
        (("models", "pull", "tinny"), ExitCode.NOT_FOUND),
        (("models", "show", "tinny"), ExitCode.NOT_FOUND),
        (("models", "path", "tiny"), ExitCode.NOT_FOUND),
        (("models", "verify", "tiny"), ExitCode.NOT_FOUND),
        (("models", "rm", "tiny"), ExitCode.NOT_FOUND),
        (("run", "tiny", "hi"), ExitCode.NOT_FOUND),
        (("models", "import", "/nothing/here"), ExitCode.NOT_FOUND),
        (("models", "rm", "demo"), ExitCode.FAILED),
        (("models", "pull"), ExitCode.WRONG_USAGE),
        (("models", "list", "--sort", "colour"), ExitCode.WRONG_USAGE),
    ],
)
def test_each_failure_has_its_code_and_says_what_to_do(shell: Shell, argv: tuple[str, ...], code: ExitCode) -> None:
    assert shell(*argv) == code
    assert shell.out == ""
    if code != ExitCode.WRONG_USAGE:
        last, hint = shell.err.splitlines()[-2:]
        assert last.startswith("mlxi: ") and hint.startswith("hint: ")


def test_wrong_bytes_end_with_their_own_code(shell: Shell) -> None:
    shell.hub.corrupt("*.safetensors", times=5)
    assert shell("models", "pull", "tiny") == ExitCode.CHECKSUM
    assert "mlxi: " in shell.err


def test_a_list_for_people_for_programs_and_for_pipes(pulled: Shell) -> None:
    assert pulled("models", "list") == 0
    heading, *rows = pulled.out.splitlines()
    assert heading.split() == ["model", "size", "for", "weights", "used", "where", "state"]
    assert any(row.split()[:3] == ["tiny", "5.7", "MB"] and "Hugging Face cache" in row for row in rows)
    assert "5.7 MB in the Hugging Face cache." in pulled.err
    assert pulled("models", "list", "-q", "--for", "chat") == 0
    assert pulled.out.split() == ["demo", "tiny"]
    assert pulled("models", "list", "--json", "--sort", "size") == 0
    records = json.loads(pulled.out)
    assert {"id": "tiny", "name": REPOSITORY, "is_usable": True}.items() <= next(
        one for one in records if one["name"] == REPOSITORY
    ).items()
    assert pulled("--list-models") == 0
    assert "tiny" in pulled.out


def test_an_unusable_model_is_listed_with_the_reason(pulled: Shell) -> None:
    (pulled.folder / ".lmstudio" / "models" / "a" / "b").mkdir(parents=True)
    (pulled.folder / ".lmstudio" / "models" / "a" / "b" / "config.json").write_text('{"model_type": "llama"}')
    assert pulled("models", "list") == 0
    assert "incomplete" in next(line for line in pulled.out.splitlines() if line.startswith("a/b"))
    assert "a/b: " in pulled.err


def test_a_model_is_checked_and_repaired(pulled: Shell) -> None:
    assert pulled("models", "verify", "tiny") == 0
    assert "9 files (5.7 MB) match the digests" in pulled.out
    path = _path(pulled)
    blob = (path / "model.safetensors").resolve()
    damaged = bytearray(blob.read_bytes())
    damaged[1000] ^= 1
    blob.write_bytes(damaged)
    assert pulled("models", "verify", "tiny", "--json") == ExitCode.CHECKSUM
    (record,) = json.loads(pulled.out)
    assert record["is_intact"] is False
    assert [problem["file"] for problem in record["problems"]] == ["model.safetensors"]
    assert pulled("models", "verify", "tiny", "--online") == ExitCode.CHECKSUM
    assert "model.safetensors: " in pulled.out
    assert "--repair" in pulled.err
    assert pulled("models", "verify", "tiny", "--repair") == 0
    assert pulled("models", "verify", "tiny", "--online") == 0
    assert "as the Hugging Face Hub lists them" in pulled.out


def test_nothing_is_deleted_without_a_yes(pulled: Shell) -> None:
    path = _path(pulled)
    assert pulled("models", "rm", "tiny") == ExitCode.WRONG_USAGE
    assert "Nothing was deleted" in pulled.err and "--yes" in pulled.err
    assert "also used by " in pulled.err
    assert path.is_dir()
    assert pulled("models", "rm", "tiny", "--yes", "--json") == 0
    assert json.loads(pulled.out)[0]["freed_bytes"] > 5_000_000
    assert not path.exists()


def test_what_an_interrupted_download_left_is_listed_and_pruned(shell: Shell) -> None:
    shell.hub.cut("*.safetensors", after_bytes=100_000, times=50)
    assert shell("models", "pull", "tiny") == ExitCode.OFFLINE
    assert "it goes on where it stopped" in shell.err
    assert shell("models", "list") == 0
    assert "Its download was interrupted" in shell.err
    assert shell("models", "prune") == ExitCode.WRONG_USAGE
    assert shell("models", "prune", "--yes", "--json") == 0
    assert json.loads(shell.out)["freed_bytes"] > 0
    assert shell("models", "prune") == 0
    assert "nothing to delete" in shell.err


def test_newer_versions_are_told_and_fetched(pulled: Shell) -> None:
    assert pulled("models", "update") == 0
    assert "All models are at their newest version." in pulled.err
    files = {path.name: path.read_bytes() for path in DEMO_FOLDER.iterdir() if path.is_file()}
    pulled.hub.publish(REPOSITORY, {**files, "generation_config.json": b'{"temperature": 0.1}'})
    assert pulled("models", "update", "-q") == 0
    assert pulled.out == f"{REPOSITORY}\n"
    assert pulled("models", "update", "--list", "--json") == 0
    assert json.loads(pulled.out)[0]["repo_id"] == REPOSITORY
    assert pulled("models", "update", "--yes") == 0
    assert json.loads((_path(pulled) / "generation_config.json").read_text()) == {"temperature": 0.1}


def test_recommendations_say_what_fits(shell: Shell) -> None:
    assert shell("models", "recommend") == 0
    assert "Apple M3: models may take 11.0 GiB of 16.0 GiB." in shell.err
    chat = shell.out.partition("chat\n")[2].partition("\ncode\n")[0]
    assert "middle" in chat and "tiny" in chat
    assert "giant" not in shell.out
    assert shell("models", "recommend", "--for", "code", "-q") == 0
    assert shell.out == "middle\n"
    assert shell("models", "recommend", "--for", "chat", "--json", "--context", "100000") == 0
    found = {one["id"]: one for one in json.loads(shell.out)["chat"]}
    assert found["giant"]["is_usable"] is False
    assert found["middle"]["memory"]["context_tokens"] == 100_000


def test_a_search_finds_words_and_leaves_out_what_was_replaced(shell: Shell) -> None:
    assert shell("models", "search", "3b", "-q") == 0
    assert shell.out == "middle\n"
    assert shell("models", "search", "-q") == 0
    assert shell.out.split() == ["tiny", "middle", "giant"]
    assert shell("models", "search", "--all", "-q") == 0
    assert "old" in shell.out.split()
    assert shell("models", "search", "nothing at all") == 0
    assert (shell.out, "No known model matches" in shell.err) == ("", True)
    assert shell("models", "search", "--json", "middle") == 0
    assert json.loads(shell.out)[0]["parameters"] == 3_200_000_000


def test_what_is_known_about_a_model_is_shown(pulled: Shell) -> None:
    path = _path(pulled)
    assert pulled("models", "show", "tiny") == 0
    for expected in ("Tiny (tiny)", "Test Org", "Apache-2.0", "tools", "1,024 tokens", str(path)):
        assert expected in pulled.out
    assert pulled("models", "show", "middle") == 0
    assert "no; to get it: mlxi models pull middle" in pulled.out
    assert pulled("models", "show", "giant", "--json") == 0
    assert json.loads(pulled.out)["memory"]["verdict"] == "too large"
    assert pulled("models", "show", "demo") == 0
    assert "weights 5.4 MiB" in pulled.out


def test_an_embedding_model_is_estimated_for_texts_as_long_as_it_reads(shell: Shell) -> None:
    assert shell("estimate", "minilm-l6-v2") == 0
    assert "with texts of 256 tokens" in shell.out and "context" not in shell.out


def test_an_estimate_ends_with_four_if_it_does_not_fit(shell: Shell) -> None:
    assert shell("estimate", "middle", "--json") == 0
    record = json.loads(shell.out)
    assert record["cache_bytes"] == 2 * 28 * 8 * 128 * 2 * 8192
    assert record["total_bytes"] == record["weight_bytes"] + record["cache_bytes"] + record["margin_bytes"]
    assert shell("estimate", "middle", "--context", "131072") == ExitCode.DOES_NOT_FIT
    assert "too large" in shell.out and "tokens of context would fit" in shell.out
    assert shell("estimate", "giant") == ExitCode.DOES_NOT_FIT
    assert shell("estimate", REPOSITORY) == 0, "from what the Hub says"
    assert shell.hub.downloads("*.safetensors") == []


def test_a_model_of_another_format_is_imported(shell: Shell) -> None:
    target = shell.folder / "made"
    assert shell("models", "import", str(DEMO_FOLDER), "--bits", "8", "--to", str(target), "--json") == 0
    record = json.loads(shell.out)
    assert (record["kind"], record["path"]) == ("chat", str(target))
    assert shell("estimate", str(target)) == 0
    assert shell("models", "import", str(target)) == 0
    assert "There is nothing to convert." in shell.err
    assert shell("models", "import", str(DEMO_FOLDER), "--bits", "8", "--to", str(target)) == ExitCode.FAILED


def test_a_format_that_cannot_be_converted_is_named_with_what_to_do(shell: Shell) -> None:
    onnx = shell.folder / "model.onnx"
    onnx.write_bytes(b"\x08\x07\x12\x04test")
    assert shell("models", "import", str(onnx)) == ExitCode.FAILED
    assert shell.err.startswith(f"mlxi: `{onnx}` is ")
    assert "hint: " in shell.err


def _path(shell: Shell) -> Path:
    assert shell("models", "path", "tiny") == 0
    return Path(shell.out.strip())
