"""Processes that download, to be killed.

One helper process imports everything once; each download is a fork of it, so that hundreds can be started and killed in
seconds. The helper holds no thread, no connection and no lock when it forks.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType

_HELPER = """
import os, sys
from pathlib import Path
import huggingface_hub, httpx2, filelock
from mlx_integrations.manager import ModelManager

endpoint, cache, repo_id = sys.argv[1:]
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            manager = ModelManager(endpoint=endpoint, cache_dir=Path(cache))
            manager.pull(repo_id)
            status = 0
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
        finally:
            os._exit(status)
    print(pid, flush=True)
    _, status = os.waitpid(pid, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


class Puller:
    """Starts downloads of one repository, one at a time."""

    def __init__(self, repo_id: str, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _HELPER, environment["HF_ENDPOINT"], environment["HF_HUB_CACHE"], repo_id],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
            cwd=Path(__file__).parent.parent.parent,
        )

    def __enter__(self) -> "Puller":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def start(self) -> int:
        """Begin a download; returns the process that does it."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def wait(self) -> int:
        """The exit status of the download that was started last; negative if it was killed."""
        assert self._process.stdout
        return int(self._process.stdout.readline())

    @staticmethod
    def kill(pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
