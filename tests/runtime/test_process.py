"""What happens to the process: exit in mid-generation, forks, file limits, side effects of imports."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.runtime.conftest import TinyModel

PRELUDE = """
import asyncio, os, sys, threading, time
from mlx_integrations.runtime.engine import Runtime
from mlx_integrations.runtime.chat.backend import MLXChatBackend
from mlx_integrations.types import ChatMessage, ChatRequest, ChatResult, SamplingParams

runtime = Runtime()
backend = MLXChatBackend(sys.argv[1], runtime=runtime)
request = ChatRequest(
    messages=(ChatMessage(role="user", content="hello"),), sampling=SamplingParams(temperature=0, max_tokens=3000)
)
"""


def run(code: str, model: Path) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TRANSFORMERS_")}
    return subprocess.run(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(code), str(model)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**inherited, "PYTHONPATH": str(Path(__file__).parents[2])},
    )


EXITS = {
    "at the end of the script": "stream = backend.stream(request); next(stream)",
    "through sys.exit": "stream = backend.stream(request); next(stream); sys.exit(0)",
    "while a thread reads": """
        def read():
            for _ in backend.stream(request):
                started.set()
        started = threading.Event()
        threading.Thread(target=read, daemon=True).start()
        started.wait()
    """,
    "with an event loop": """
        async def main():
            stream = backend.astream(request)
            await anext(stream)
        asyncio.run(main())
    """,
    "with the model idle": "list(backend.stream(ChatRequest(messages=request.messages, "
    "sampling=SamplingParams(max_tokens=2))))",
    "after close": "next(backend.stream(request)); runtime.close()",
    "without having generated": "backend.capabilities",
}


@pytest.mark.parametrize("how", EXITS)
def test_the_process_ends_cleanly(how: str, tiny_model: TinyModel) -> None:
    done = run(EXITS[how], tiny_model())
    assert (done.returncode, done.stderr) == (0, "")


def test_the_child_of_a_fork_is_told_instead_of_hanging(tiny_model: TinyModel) -> None:
    done = run(
        """
        list(backend.stream(ChatRequest(messages=request.messages, sampling=SamplingParams(max_tokens=2))))
        pid = os.fork()
        if pid == 0:
            try:
                next(backend.stream(request))
            except Exception as error:
                os._exit(7 if type(error).__name__ == "RuntimeClosedError" else 8)
            os._exit(9)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        """,
        tiny_model(),
    )
    assert done.returncode == 0
    assert done.stdout.split() == ["7"]


def test_the_limit_of_open_files_stays_what_it_was(tiny_model: TinyModel) -> None:
    done = run(
        """
        import resource
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        backend.capabilities
        assert "mlx_lm" in sys.modules
        print(before == resource.getrlimit(resource.RLIMIT_NOFILE), "TRANSFORMERS_NO_ADVISORY_WARNINGS" in os.environ)
        """,
        tiny_model(),
    )
    assert done.stdout.split() == ["True", "False"], done.stderr


def test_mlx_is_used_on_one_thread_only(tiny_model: TinyModel) -> None:
    """The main thread has no stream of its own afterwards: nothing was computed on it."""
    done = run(
        """
        ChatResult.join(backend.stream(ChatRequest(messages=request.messages, sampling=SamplingParams(max_tokens=5))))
        print([thread.name for thread in threading.enumerate()])
        """,
        tiny_model(),
    )
    assert done.stdout.strip() == "['MainThread', 'mlx-runtime']", done.stderr


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the BLAS of the faiss-cpu wheel is used on Linux only"
)
def test_the_fast_blas_can_be_switched_off(tiny_model: TinyModel) -> None:
    code = """
        from mlx_integrations.runtime import blas
        from mlx_integrations.settings import RuntimeSettings
        Runtime(RuntimeSettings(blas_preload={0})).prepare()
        maps = open("/proc/self/maps").read()
        print(blas.preload_blas({0}), "libopenblas" in maps)
    """
    assert run(code.format("False"), tiny_model()).stdout.split() == ["off", "False"]
    assert run(code.format("True"), tiny_model()).stdout.split() == ["preloaded", "True"]


def test_without_mlx_the_package_imports_and_says_what_to_install(tiny_model: TinyModel) -> None:
    done = run(
        """
        import mlx_integrations, mlx_integrations.langchain, mlx_integrations.assembly
        from mlx_integrations.errors import MLXUnavailableError
        sys.modules["mlx"] = sys.modules["mlx.core"] = None
        model = mlx_integrations.langchain.ChatMLX(model=sys.argv[1])
        for attempt in (lambda: next(backend.stream(request)), lambda: model.invoke("hello")):
            try:
                attempt()
            except MLXUnavailableError as error:
                print("mlx-integrations[cpu]" in str(error), "mlx-integrations[cuda13]" in str(error))
        """,
        tiny_model(),
    )
    assert done.stdout.split() == ["True"] * 4, done.stderr
