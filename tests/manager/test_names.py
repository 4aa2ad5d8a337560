"""Names of repositories, revisions and files are what they may be, and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_integrations.manager.names import RepositoryName, is_commit, is_safe_path, parse_repository, paths_collide


@pytest.mark.parametrize(
    ("text", "repo_id", "revision"),
    [
        ("org/name", "org/name", None),
        ("mlx-community/Llama-3.2-3B-Instruct-4bit", "mlx-community/Llama-3.2-3B-Instruct-4bit", None),
        ("org/name@v1.0", "org/name", "v1.0"),
        ("org/name@refs/pr/7", "org/name", "refs/pr/7"),
        ("https://huggingface.co/org/name", "org/name", None),
        ("https://huggingface.co/org/name/", "org/name", None),
        ("https://huggingface.co/org/name/tree/main?x=1#y", "org/name", "main"),
        ("https://huggingface.co/org/name/blob/abc/config.json", "org/name", "abc"),
        ("https://huggingface.co/org/name/resolve/v1/config.json", "org/name", "v1"),
        ("https://huggingface.co/org/name/tree/refs%2Fpr%2F7", "org/name", "refs/pr/7"),
    ],
)
def test_a_repository_is_read_however_people_write_it(text: str, repo_id: str, revision: str | None) -> None:
    assert parse_repository(text) == RepositoryName(repo_id=repo_id, revision=revision)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "name",
            "a/b/c",
            "/a",
            "a/",
            "../b",
            "a/..",
            "a--b/c",
            "a/b@",
            "a/b@../c",
            "a/b@x/../y",
            "a b/c",
            "a/b@-x",
        ),
        *("http://[", "https://", "https://huggingface.co/", "https://huggingface.co/%2e%2e/x", "https://h/a%2Fb/c"),
        *("https://huggingface.co/datasets/org/name", "https://huggingface.co/spaces/org/name"),
    ],
)
def test_anything_else_is_no_repository(text: str) -> None:
    assert parse_repository(text) is None


@given(
    st.sampled_from(["", "http://", "https://h/", "https://h/a/b/tree/"]).flatmap(lambda s: st.text().map(s.__add__))
)
def test_no_text_makes_a_repository_that_leads_out_of_the_cache(text: str) -> None:
    name = parse_repository(text)
    assert name is None or (".." not in f"{name.repo_id}{name.revision}" and name.repo_id.count("/") == 1)


@given(st.lists(st.sampled_from(["a", "..", ".", "", "b.json", "C:", "\\", "\x00"]), min_size=1, max_size=5))
def test_a_safe_path_stays_below_its_folder(parts: list[str]) -> None:
    path = "/".join(parts)
    assert is_safe_path(path) == all(part in ("a", "b.json") for part in parts)


@pytest.mark.parametrize("mark", ["\x00", "\x1b", "\x85", "\u202e", "\u2067", "\ud800"])
def test_a_path_with_marks_that_mislead_a_reader_is_not_safe(mark: str) -> None:
    assert is_safe_path("weights-für-alle-🦙.safetensors")
    assert not is_safe_path(f"model{mark}.safetensors")


def test_only_a_whole_hash_is_a_commit() -> None:
    assert is_commit("0" * 40)
    assert not any(is_commit(text) for text in ("0" * 39, "G" * 40, "main", "A" * 40))


def test_paths_that_need_one_name_twice_collide() -> None:
    assert paths_collide(["a", "a/b"]) and paths_collide(["a/b/c", "a"]) and paths_collide(["a", "a"])
    assert not paths_collide(["a", "b/a", "b/c"])
