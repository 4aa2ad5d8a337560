"""What a person is told of the catalogue: each thing once, at most once a day, and nothing the first time."""

from pathlib import Path
from typing import Any

import pytest

from mlx_integrations.registry import ModelEntry, ModelRegistry, notices
from mlx_integrations.registry.reading import Document

DAY = 24 * 3600.0
NOW = 1_800_000_000.0


def entry(model_id: str, **values: Any) -> ModelEntry:
    return ModelEntry(id=model_id, name=model_id.title(), kind="chat", **values)


OLD = ModelRegistry(entries=(entry("one"), entry("two")))
GROWN = OLD.merged(Document(entries=(entry("three", replaces=("one",)),)), source="remote")


def kinds(registry: ModelRegistry, file: Path, now: float, **options: Any) -> list[tuple[str, str]]:
    return [(notice.kind, notice.model_id) for notice in notices(registry, file, now, **options)]


def test_the_first_time_there_is_nothing_to_tell(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "state.json"
    assert kinds(ModelRegistry.embedded(), file, NOW) == []
    assert file.is_file()


def test_what_is_new_is_told_once(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    notices(OLD, file, NOW)
    told = notices(GROWN, file, NOW + DAY)
    assert [(notice.kind, notice.model_id) for notice in told] == [("new", "three"), ("replaced", "one")]
    assert [notice.text for notice in told] == ["Three is new: three", "one has a successor: three"]
    assert kinds(GROWN, file, NOW + 3 * DAY) == []


def test_nothing_is_told_twice_in_a_day(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    notices(OLD, file, NOW)
    assert kinds(GROWN, file, NOW + DAY - 1) == []
    assert len(kinds(GROWN, file, NOW + DAY)) == 2
    more = GROWN.merged(Document(entries=(entry("four"),)), source="remote")
    assert kinds(more, file, NOW + DAY + 10) == []
    assert kinds(more, file, NOW + 2 * DAY) == [("new", "four")]


def test_what_is_deprecated_is_told_with_its_reason(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    notices(OLD, file, NOW)
    changed = OLD.merged(Document(entries=(entry("two", deprecated="Its licence changed."),)), source="remote")
    (notice,) = notices(changed, file, NOW + DAY)
    assert notice.kind == "deprecated"
    assert notice.text == "two should not be started with any more: Its licence changed."


def test_of_models_that_are_not_installed_only_new_ones_are_told(tmp_path: Path) -> None:
    for installed, expected in ((["one"], ["new", "replaced"]), ([], ["new"])):
        file = tmp_path / f"{len(installed)}.json"
        notices(OLD, file, NOW)
        assert [kind for kind, _ in kinds(GROWN, file, NOW + DAY, installed=installed)] == expected


def test_a_model_that_comes_back_is_not_new_again(tmp_path: Path) -> None:
    """A remote list that is out of reach for a while must not make its models news."""
    file = tmp_path / "state.json"
    notices(GROWN, file, NOW)
    more = OLD.merged(Document(entries=(entry("four"),)), source="remote")
    assert kinds(more, file, NOW + DAY) == [("new", "four")]
    assert kinds(GROWN, file, NOW + 3 * DAY) == []


def test_a_clock_that_was_set_back_does_not_silence_for_ever(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    notices(OLD, file, NOW)
    assert kinds(GROWN, file, NOW - 100 * DAY) == [("new", "three"), ("replaced", "one")]


@pytest.mark.parametrize(
    "damage", [b"", b"{}", b"[]", b"\xff", b'{"format": 1, "told_at": "x", "told": []}', b"[" * 100_000]
)
def test_a_damaged_state_counts_as_the_first_time(damage: bytes, tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    file.write_bytes(damage)
    assert kinds(OLD, file, NOW) == []
    assert kinds(GROWN, file, NOW + DAY) == [("new", "three"), ("replaced", "one")]


def test_a_state_that_cannot_be_kept_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert kinds(OLD, tmp_path / "file" / "state.json", NOW) == []


def test_successors_that_are_known_to_the_package_are_no_news_to_a_new_user(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    notices(ModelRegistry.embedded(), file, NOW)
    assert notices(ModelRegistry.embedded(), file, NOW + 5 * DAY) == []
