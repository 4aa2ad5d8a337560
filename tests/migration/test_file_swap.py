"""Files that take the place of others: what is left when that is cut off, and what else may lie in their folder."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from mlx_integrations.errors import StoreError
from mlx_integrations.migration.api import gc, migrate, rollback
from mlx_integrations.migration.finding.scan import scan
from mlx_integrations.migration.stores.opening import open_store
from tests.migration.stores import OLD_DIMENSIONS, contents_of, executor, save_faiss, texts
from tests.migration.test_written_meanwhile import KINDS, cut_off, program, texts_of

KILLED = """
import os, signal, sys
from mlx_integrations.migration.api import migrate
from mlx_integrations.migration.stores.opening import open_store
from tests.migration.stores import executor

def hook(event, arguments):
    if event == "os.rename" and str(arguments[0]).endswith(sys.argv[2]) == (sys.argv[2] == ".part"):
        if "mlxi-embedding.json" in str(arguments[0]):
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(hook)
migrate(open_store(sys.argv[1]), executor(8))
"""


@pytest.mark.parametrize("moment", [".part", "new"])
def test_a_record_that_was_being_written_is_deleted_with_its_run(tmp_path: Path, moment: str) -> None:
    folder = save_faiss(tmp_path / "store", texts(6))
    store = open_store(folder)
    migrate(store, executor())
    gc(store)
    before = contents_of(tmp_path)
    done = subprocess.run([sys.executable, "-c", KILLED, str(folder), moment], check=False, capture_output=True)
    assert done.returncode < 0, done.stderr
    assert any("mlxi-embedding.json." in path.name for path in folder.iterdir())
    rollback(store)
    gc(store)
    assert contents_of(tmp_path) == before


@pytest.mark.parametrize("is_cut_off", [False, True])
def test_what_was_built_and_is_deleted_can_be_built_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_cut_off: bool
) -> None:
    address, _ = program("langchain-in-memory", tmp_path)
    before = address.read_bytes()
    if is_cut_off:
        cut_off(address, "switch", monkeypatch)
    else:
        migrate(open_store(address), executor(), publishes=False)
    (built,) = tmp_path.glob("store.json.mlxi-????????????")
    built.unlink()
    with pytest.raises(StoreError, match="or it was deleted") as caught:
        migrate(open_store(address), executor())
    assert {"rollback", "--restart"} <= set(re.findall("rollback|--restart", caught.value.hint))
    if is_cut_off:
        rollback(open_store(address))
    assert address.read_bytes() == before
    assert migrate(open_store(address), executor(), restart=True).in_use == "new"


@pytest.mark.parametrize("kind", KINDS)
def test_links_to_files_are_back_after_a_rollback(tmp_path: Path, kind: str) -> None:
    (tmp_path / "near").mkdir()
    (tmp_path / "far").mkdir()
    address, _ = program(kind, tmp_path / "near")
    for file in [address] if address.is_file() else list(address.iterdir()):
        shutil.move(file, tmp_path / "far" / file.name)
        file.symlink_to(os.path.relpath(tmp_path / "far" / file.name, file.parent))
    before = contents_of(tmp_path)
    links = {path for path in tmp_path.rglob("*") if path.is_symlink()}
    store = open_store(address)
    migrate(store, executor())
    rollback(store)
    gc(store)
    assert contents_of(tmp_path) == before
    assert {path for path in tmp_path.rglob("*") if path.is_symlink()} == links
    migrate(store, executor())
    gc(store)
    assert len(texts_of(address)) == 6


@pytest.mark.parametrize("kind", KINDS)
def test_other_names_of_the_same_files_stay_as_they_are(tmp_path: Path, kind: str) -> None:
    (tmp_path / "near").mkdir()
    address, _ = program(kind, tmp_path / "near")
    shutil.copytree(tmp_path / "near", tmp_path / "copy", copy_function=os.link)
    before = contents_of(tmp_path / "copy")
    store = open_store(address)
    migrate(store, executor())
    gc(store)
    assert contents_of(tmp_path / "copy") == before
    assert open_store(tmp_path / "copy" / address.name).describe().dimensions == (OLD_DIMENSIONS,)


@pytest.mark.parametrize("kind", ["llama-index-simple", "llama-index-faiss"])
def test_of_two_stores_that_would_share_a_record_only_one_can_be_migrated(tmp_path: Path, kind: str) -> None:
    address, _ = program(kind, tmp_path)
    save_faiss(address, texts(4))
    with pytest.raises(StoreError, match="FAISS of LangChain") as caught:
        open_store(address, "default")
    assert "folder of their own" in caught.value.hint
    found = scan(tmp_path)
    assert {(each.location.kind, bool(each.fault)) for each in found} == {("langchain-faiss", False), (kind, True)}
    store = open_store(address)
    before = contents_of(address)
    migrate(store, executor())
    rollback(store)
    gc(store)
    assert contents_of(address) == before


AS_NOBODY = """
import os, sys, tempfile
from pathlib import Path
from mlx_integrations.migration.api import migrate
from mlx_integrations.migration.stores.opening import open_store
from mlx_integrations.errors import StoreError
from tests.migration.stores import executor
from tests.migration.test_written_meanwhile import program

with tempfile.TemporaryDirectory() as folder:  # whatever is imported, while it may be read
    migrate(open_store(program(sys.argv[2], Path(folder))[0]), executor())
os.setgid(65534)
os.setuid(65534)
try:
    migrate(open_store(sys.argv[1]), executor())
except StoreError as error:
    print(error.message, error.hint)
"""
PROTECTED = Path("/proc/sys/fs/protected_hardlinks")


@pytest.mark.skipif(os.geteuid() != 0, reason="only an administrator can be somebody else for a while")
@pytest.mark.parametrize(
    ("kind", "mode", "told"),
    [
        ("langchain-faiss", 0o600, "may not be read"),
        ("langchain-in-memory", 0o600, "may not be read"),
        ("llama-index-simple", 0o600, "may not be read"),
        ("llama-index-simple", 0o644, "owner of that file"),
    ],
)
def test_files_of_somebody_else_are_told(kind: str, mode: int, told: str) -> None:
    if mode & 0o044 and not (PROTECTED.is_file() and PROTECTED.read_text().strip() == "1"):
        pytest.skip("this system lets anybody give names to files of others")
    with tempfile.TemporaryDirectory() as made:  # that of pytest is closed to others
        for folder in (Path(made), Path(made) / "own"):
            folder.mkdir(exist_ok=True)
            folder.chmod(0o777)
        address, _ = program(kind, folder)
        for file in [address] if address.is_file() else [address, *address.iterdir()]:
            file.chmod(0o777 if file.is_dir() else mode)
        command = [sys.executable, "-c", AS_NOBODY, str(address), kind]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, "HOME": made})
        assert told in done.stdout
        assert len(texts_of(address)) == 6
