"""A project remembers the model of its stores, and a rollback takes it back."""

from pathlib import Path

import pytest

from mlx_integrations import assembly
from mlx_integrations.errors import ConfigurationError
from mlx_integrations.langchain import MLXEmbeddings
from mlx_integrations.llama_index import MLXEmbedding
from mlx_integrations.migration.api import gc, migrate, rollback
from mlx_integrations.migration.choice import forget_choice, project_of, remember_choice
from mlx_integrations.migration.protocol import Store
from mlx_integrations.migration.records import StoreLocation
from mlx_integrations.migration.stores.opening import open_store
from mlx_integrations.settings import Settings
from tests.migration.stores import executor, save_faiss, texts


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLXI_CONFIG", raising=False)


def at(path: Path, *, is_file: bool = False) -> StoreLocation:
    if is_file:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    else:
        path.mkdir(parents=True)
    return StoreLocation(kind="x", address=str(path))


@pytest.mark.parametrize("mark", ["mlxi.toml", "pyproject.toml", "requirements.txt", "package.json"])
def test_a_project_is_known_by_its_files(tmp_path: Path, mark: str) -> None:
    store = at(tmp_path / "projects" / "a" / "data" / "index")
    (tmp_path / "projects" / "a" / mark).write_text("")
    assert project_of(store) == project_of(store, tmp_path / "projects") == tmp_path / "projects" / "a"


def test_a_project_with_a_repository_counts_before_a_folder_with_programs(tmp_path: Path) -> None:
    store = at(tmp_path / "a" / "src" / "index")
    (tmp_path / "a" / "src" / "app.py").write_text("")
    assert project_of(store, tmp_path) == tmp_path / "a" / "src"
    (tmp_path / "a" / ".git").mkdir()
    assert project_of(store, tmp_path) == tmp_path / "a"


def test_without_any_sign_it_is_the_folder_below_the_one_that_was_searched(tmp_path: Path) -> None:
    assert project_of(at(tmp_path / "p" / "a" / "data" / "index"), tmp_path / "p") == tmp_path / "p" / "a"
    assert project_of(at(tmp_path / "p" / "b" / "notes.json", is_file=True), tmp_path / "p") == tmp_path / "p" / "b"
    assert project_of(at(tmp_path / "p" / "index"), tmp_path / "p") == tmp_path / "p"
    assert project_of(at(tmp_path / "p" / "notes.json", is_file=True), tmp_path / "p") == tmp_path / "p"
    store = at(tmp_path / "q" / "index")
    assert project_of(store, tmp_path / "q" / "index") == tmp_path / "q"


def test_what_lies_above_what_was_searched_is_no_project(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    assert project_of(at(tmp_path / "p" / "a" / "index"), tmp_path / "p") == tmp_path / "p" / "a"


def test_one_store_belongs_to_where_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = at(tmp_path / "p" / "data" / "index")
    monkeypatch.chdir(tmp_path / "p")
    assert project_of(store) == tmp_path / "p"
    monkeypatch.chdir("/")
    far = StoreLocation(kind="x", address="postgresql://host/db", name="notes")
    assert project_of(far, tmp_path) == tmp_path and project_of(far) == Path("/")


def test_the_home_folder_is_no_project(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "package.json").write_text("{}")
    assert project_of(at(tmp_path / "home" / "index")) != tmp_path / "home" / "package.json"
    assert project_of(at(tmp_path / "home" / "a" / "index"), tmp_path / "home") == tmp_path / "home" / "a"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return tmp_path / "project"


@pytest.fixture
def store(project: Path) -> Store:
    store = open_store(save_faiss(project / "index", texts(5)))
    migrate(store, executor())
    return store


def said(project: Path) -> str:
    return (project / "mlxi.toml").read_text()


def test_both_frameworks_take_the_model_of_the_project(
    store: Store, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choice = remember_choice(store.location, project, "nomic-embed-text-v1.5", 256)
    assert (choice.state, choice.says, choice.path) == ("written", "nomic-embed-text-v1.5", project / "mlxi.toml")
    monkeypatch.chdir(project)
    before = assembly.get_settings()
    try:
        assembly.use_settings(Settings())
        first, second = MLXEmbeddings(), MLXEmbedding()
        assert (first.model, first.dimensions) == ("nomic-embed-text-v1.5", 256)
        assert (second.model_name, second.dimensions) == ("nomic-embed-text-v1.5", 256)
        # Whoever names a model, or brings one, means all of it.
        assert MLXEmbeddings(model="other").dimensions is None
        assert MLXEmbedding("other").dimensions is None
        assert MLXEmbeddings.from_profile("projects").dimensions == 256
    finally:
        assembly.use_settings(before)


def test_a_rollback_takes_it_back(store: Store, project: Path) -> None:
    remember_choice(store.location, project, "new-model")
    assert said(project) == '[embedding]\ndefault = "new-model"\n'
    rollback(store)
    choice = forget_choice(store.location)
    assert choice is not None and (choice.state, choice.says) == ("forgotten", None)
    assert not (project / "mlxi.toml").exists()
    assert forget_choice(store.location) is None


def test_everything_else_in_the_file_stays(store: Store, project: Path) -> None:
    text = '# mine\n[models]\ndefault = "demo"  # this one\n'
    (project / "mlxi.toml").write_text(text)
    remember_choice(store.location, project, "new-model", 8)
    assert text in said(project) and "dimensions = 8" in said(project)
    forget_choice(store.location)
    assert said(project).startswith(text) and "new-model" not in said(project) and "dimensions" not in said(project)


def test_another_choice_is_left_alone_unless_it_is_to_be_replaced(store: Store, project: Path) -> None:
    text = '[embedding]\ndefault = "bge-small"\ndimensions = 12\n'
    (project / "mlxi.toml").write_text(text)
    choice = remember_choice(store.location, project, "new-model")
    assert (choice.state, choice.says, said(project)) == ("other", "bge-small", text)
    assert remember_choice(store.location, project, "new-model", replaces=True).state == "written"
    assert said(project) == '[embedding]\ndefault = "new-model"\n'
    assert remember_choice(store.location, project, "new-model").state == "there"
    forget_choice(store.location)
    assert said(project) == text


def test_what_was_there_before_is_not_taken_back(store: Store, project: Path) -> None:
    text = '[embedding]\ndefault = "new-model"\n'
    (project / "mlxi.toml").write_text(text)
    assert remember_choice(store.location, project, "new-model").state == "there"
    assert forget_choice(store.location) is None and said(project) == text


def test_what_somebody_changed_since_is_not_taken_back(store: Store, project: Path) -> None:
    remember_choice(store.location, project, "new-model")
    (project / "mlxi.toml").write_text('[embedding]\ndefault = "mine"\n')
    assert forget_choice(store.location) is None
    assert "mine" in said(project)


def test_killed_between_noting_and_writing_it_is_written_and_taken_back(
    store: Store, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "mlxi.toml").write_text('[embedding]\ndefault = "before"\n')
    with monkeypatch.context() as patch:
        patch.setattr("mlx_integrations.migration.choice._write", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            remember_choice(store.location, project, "new-model", replaces=True)
    assert "before" in said(project)
    remember_choice(store.location, project, "new-model", replaces=True)
    forget_choice(store.location)
    assert said(project) == '[embedding]\ndefault = "before"\n'


def test_json_is_written_where_the_project_has_it(store: Store, project: Path) -> None:
    (project / "mlxi.json").write_text('{"offline": true}')
    choice = remember_choice(store.location, project, "new-model")
    assert choice.path == project / "mlxi.json"
    assert '"default": "new-model"' in choice.path.read_text() and "offline" in choice.path.read_text()


def test_a_file_that_cannot_be_read_is_told_and_left(store: Store, project: Path) -> None:
    (project / "mlxi.toml").write_text("[embedding\n")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        remember_choice(store.location, project, "new-model")
    assert said(project) == "[embedding\n"


def test_after_gc_the_choice_stays(store: Store, project: Path) -> None:
    remember_choice(store.location, project, "new-model")
    gc(store)
    assert forget_choice(store.location) is None and "new-model" in said(project)


def test_a_model_in_a_folder_is_found_from_anywhere(
    store: Store, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models" / "mine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert remember_choice(store.location, project, "models/mine").says == str(tmp_path / "models" / "mine")
