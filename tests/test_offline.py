"""One switch keeps everything in this process off the network."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import pytest

from mlx_integrations.manager.packaged import find_packaged
from mlx_integrations.offline import VARIABLES, switch_off_network

# Python tells an audit hook of every connection and of every name that is looked up, whoever asks for it.
_WATCH = """
import json, sys
asked = []
def hook(event, arguments):
    if event in ("socket.connect", "socket.sendto"):
        address = arguments[1]
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        address = arguments
    else:
        return
    host = address[0] if isinstance(address, tuple) else address
    if isinstance(host, str) and not host.startswith(("/", "127.", "::1", "localhost")):
        asked.append(f"{event} {host}")
        raise OSError("there is no network")
sys.addaudithook(hook)
"""

_CHAT = """
from mlx_integrations.langchain import ChatMLX
ChatMLX(model="demo", max_tokens=5).invoke("Hi")
"""

_CHAT_AND_RAG = """
from langchain_community.vectorstores import FAISS
from mlx_integrations.langchain import ChatMLX, MLXEmbeddings

llm = ChatMLX(model="demo", temperature=0, max_tokens=40)
store = FAISS.from_texts(["The museum is closed on Mondays.", "A ticket costs two euros."], MLXEmbeddings())
(passage,) = store.similarity_search("When can I not visit the museum?", k=1)
answer = llm.invoke(f"{passage.page_content}\\n\\nWhen is the museum closed?")
"""

_COMMANDS = """
from mlx_integrations.cli.main import main
codes = {
    "chat": main(["--offline", "chat", "Who are you?"]),
    "embed": main(["--offline", "embed", "a text"]),
    "list": main(["--offline", "models", "list"]),
    "search": main(["--offline", "models", "search", "llama"]),
    "show": main(["--offline", "models", "show", "llama-3.2-3b"]),
    "pull": main(["--offline", "models", "pull", "llama-3.2-3b", "--yes"]),
    "update": main(["--offline", "models", "update"]),
}
"""


def _run(code: str, folder: Path, **variables: str) -> dict[str, Any]:
    """Run code in a fresh process with a home of its own; the last line it prints is JSON."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "MLXI_", "LANG"))}
    done = subprocess.run(
        [sys.executable, "-c", f"{_WATCH}\n{code}"],
        env={**kept, "HOME": str(folder), "XDG_CONFIG_HOME": str(folder / "config"), **variables},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return cast(dict[str, Any], json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.skipif(find_packaged("minilm-l6-v2") is None, reason="the package of MiniLM is not installed")
def test_chat_embedding_and_retrieval_ask_for_nothing_although_tracing_is_on(tmp_path: Path) -> None:
    found = _run(
        _CHAT + _CHAT_AND_RAG + "print(json.dumps({'answer': answer.text, 'asked': asked}))",
        tmp_path,
        MLXI_OFFLINE="1",
        LANGSMITH_TRACING="true",
        LANGSMITH_API_KEY="not-a-key",
        LANGSMITH_ENDPOINT="http://192.0.2.1",
    )
    assert found == {"answer": "The museum is closed on Mondays.", "asked": []}


def test_no_command_asks_for_anything(tmp_path: Path) -> None:
    variables = {"MLXI_REGISTRY__URL": "https://models.example.org/registry.json"}
    found = _run(_COMMANDS + "print()\nprint(json.dumps({'codes': codes, 'asked': asked}))", tmp_path, **variables)
    assert found["asked"] == []
    offline = 5
    assert found["codes"] == {
        "chat": 0,
        "embed": 0,
        "list": 0,
        "search": 0,
        "show": 0,
        "pull": offline,
        "update": 0,
    }


def test_libraries_that_are_there_already_are_told() -> None:
    said: list[dict[str, bool]] = []
    constants = SimpleNamespace(HF_HUB_OFFLINE=False, HF_HUB_DISABLE_TELEMETRY=False)
    langsmith = SimpleNamespace(configure=lambda **options: said.append(options))
    environ = {"LANGSMITH_TRACING": "true", "PATH": "/bin"}
    modules = cast(dict[str, ModuleType], {"huggingface_hub.constants": constants, "langsmith": langsmith})
    switch_off_network(environ, modules)
    assert environ == {"PATH": "/bin", **VARIABLES}
    assert constants.HF_HUB_OFFLINE and constants.HF_HUB_DISABLE_TELEMETRY
    assert said == [{"enabled": False}]


def test_settings_switch_it_off(tmp_path: Path) -> None:
    (tmp_path / "mlxi.toml").write_text("offline = true\n", encoding="utf-8")
    code = """
import os, huggingface_hub
from mlx_integrations.langchain import ChatMLX
ChatMLX(model="demo")
print(json.dumps({"hub": huggingface_hub.is_offline_mode(), "variable": os.environ["HF_HUB_OFFLINE"]}))
"""
    assert _run(code, tmp_path) == {"hub": True, "variable": "1"}


def test_a_folder_of_chroma_that_is_open_can_be_opened_again(tmp_path: Path) -> None:
    code = """
import chromadb
from mlx_integrations.offline import switch_off_network
notes = chromadb.PersistentClient("db").create_collection("notes", embedding_function=None)
asked = chromadb.PersistentClient("own", settings=chromadb.Settings(anonymized_telemetry=True))
switch_off_network()
again = chromadb.PersistentClient("db")
told = chromadb.PersistentClient("own", settings=chromadb.Settings(anonymized_telemetry=True))
names = [each.name for each in again.list_collections()]
print(json.dumps({"names": names, "sends": again.get_settings().anonymized_telemetry}))
"""
    assert _run(code, tmp_path) == {"names": ["notes"], "sends": False}
