"""A Hugging Face Hub on this machine: real sockets, real ranges, and faults on demand.

    with LoopbackHub() as hub:
        commit = hub.publish("test-org/tiny", {"config.json": b"{}", "model.safetensors": weights})
        hub.cut("*.safetensors", after_bytes=100_000)
        ModelManager(endpoint=hub.endpoint, cache_dir=cache).pull("test-org/tiny")

It speaks what huggingface_hub 2.4 asks for: the revision, the tree and the files of model repositories, with the
headers `X-Repo-Commit`, `ETag`, `X-Linked-ETag`, `X-Linked-Size` and `X-Error-Code`. With `cdn=True` large files are
served by a second server on another port, as the real Hub does.

Tests run with HF_HUB_OFFLINE=1; `go_online` lifts that for one test, `hub.environment(...)` for a subprocess.
"""

import fnmatch
import hashlib
import json
import re
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Final
from urllib.parse import parse_qs, quote, unquote, urlsplit

import pytest

DEMO_FOLDER: Final = Path(__file__).parent.parent / "mlx_integrations" / "demo" / "model"
"""A real MLX model of a few megabytes, to publish with `publish_folder`."""

_LFS_SUFFIXES = (".safetensors", ".bin", ".gguf", ".onnx", ".h5", ".msgpack", ".pt", ".model")
_LFS_BYTES = 10 * 1024 * 1024  # the Hub keeps larger files in LFS whatever their name
_FORBIDDEN = {"private": (401, "RepoNotFound"), "gated": (401, "GatedRepo"), "refused": (403, "GatedRepo")}


@dataclass(kw_only=True)
class Blob:
    """The bytes of a file, and the names they go by."""

    content: bytes
    is_lfs: bool

    @cached_property
    def git_sha1(self) -> str:
        return hashlib.sha1(b"blob %d\0" % len(self.content) + self.content).hexdigest()

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.is_lfs else self.git_sha1


@dataclass(slots=True, kw_only=True)
class Repository:
    """A repository: its commits, its branches, and who may read it."""

    commits: dict[str, dict[str, Blob]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    access: str = "open"


@dataclass(slots=True, kw_only=True)
class Request:
    """One request, with what was sent for it so far.

    Attributes:
        server: `hub` or `cdn`.
        start: First byte asked for; `None` without a range.
    """

    server: str
    method: str
    path: str
    start: int | None
    authorization: str | None
    status: int = 0
    sent_bytes: int = 0


@dataclass(slots=True, kw_only=True)
class _Fault:
    kind: str
    pattern: str
    times: int
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    after_bytes: int = 0


class LoopbackHub:
    """A Hub on 127.0.0.1. Start it with `with`, or with `start` and `close`.

    Args:
        cdn: Whether LFS files are served by a second server, which the first one redirects to.
        bytes_per_second: How fast each connection sends; `None` means as fast as it can.
        slice_bytes: What is sent at once.
        page_size: Entries of one page of a tree.
        token: What opens private and gated repositories.
    """

    def __init__(
        self,
        *,
        cdn: bool = False,
        bytes_per_second: float | None = None,
        slice_bytes: int = 64 * 1024,
        page_size: int = 1000,
        token: str = "hf_loopback",
    ) -> None:
        self.bytes_per_second = bytes_per_second
        self.slice_bytes = slice_bytes
        self.page_size = page_size
        self.token = token
        self.ignore_ranges = False
        self.repositories: dict[str, Repository] = {}
        self.requests: list[Request] = []
        self._faults: list[_Fault] = []
        self._lock = threading.Lock()
        self._servers = [_Server(self, "hub"), *([_Server(self, "cdn")] if cdn else [])]

    def start(self) -> "LoopbackHub":
        for server in self._servers:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def close(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def __enter__(self) -> "LoopbackHub":
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def endpoint(self) -> str:
        """What goes into `endpoint=` or HF_ENDPOINT."""
        return f"http://127.0.0.1:{self._servers[0].server_address[1]}"

    @property
    def cdn_endpoint(self) -> str:
        """Where LFS files come from."""
        return f"http://127.0.0.1:{self._servers[-1].server_address[1]}"

    def environment(self, cache_dir: Path) -> dict[str, str]:
        """Variables that let another process use this Hub and a cache of its own."""
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_HUB_CACHE": str(cache_dir),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
        }

    # What is on it

    def publish(self, repo_id: str, files: Mapping[str, bytes], *, branch: str = "main", access: str = "open") -> str:
        """Commit files to a branch: what was there before is replaced.

        Args:
            repo_id: The repository; made if there is none.
            files: Contents by path.
            branch: Where the commit goes.
            access: `open`, `private` (needs the token), `gated` (needs the token) or `refused` (the token is not on
                the list of those who may).

        Returns:
            The commit.
        """
        blobs = {
            path: Blob(content=content, is_lfs=path.endswith(_LFS_SUFFIXES) or len(content) >= _LFS_BYTES)
            for path, content in files.items()
        }
        with self._lock:
            repository = self.repositories.setdefault(repo_id, Repository())
            seed = json.dumps([repo_id, len(repository.commits), {path: blob.etag for path, blob in blobs.items()}])
            commit = hashlib.sha1(seed.encode()).hexdigest()
            repository.commits[commit] = blobs
            repository.branches[branch] = commit
            repository.access = access
        return commit

    def publish_folder(self, repo_id: str, folder: Path, **options: Any) -> str:
        """Commit every file of a folder."""
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        return self.publish(repo_id, files, **options)

    # What goes wrong on it

    def cut(self, pattern: str = "*", *, after_bytes: int, times: int = 1) -> None:
        """Drop the connection in the middle of the next answers to a path."""
        self._faults.append(_Fault(kind="cut", pattern=pattern, times=times, after_bytes=after_bytes))

    def corrupt(self, pattern: str = "*", *, times: int = 1) -> None:
        """Send wrong bytes of the right length."""
        self._faults.append(_Fault(kind="corrupt", pattern=pattern, times=times))

    def shorten(self, pattern: str = "*", *, times: int = 1) -> None:
        """Send a file that is shorter than the tree says."""
        self._faults.append(_Fault(kind="shorten", pattern=pattern, times=times))

    def fail(
        self, pattern: str = "*", *, status: int, times: int = 1, headers: Mapping[str, str] | None = None
    ) -> None:
        """Answer the next requests to a path with a status, and headers such as `Retry-After`."""
        self._faults.append(
            _Fault(kind="fail", pattern=pattern, times=times, status=status, headers=dict(headers or {}))
        )

    def stall(self, pattern: str = "*", *, after_bytes: int, times: int = 1) -> None:
        """Stop sending in the middle, without closing the connection."""
        self._faults.append(_Fault(kind="stall", pattern=pattern, times=times, after_bytes=after_bytes))

    # What was asked of it

    def downloads(self, pattern: str = "*") -> list[Request]:
        """The requests that asked for a file's bytes, in order; redirects are not among them."""
        return [
            request
            for request in self.requests
            if request.method == "GET" and request.status in (200, 206) and fnmatch.fnmatch(request.path, pattern)
            if "/resolve/" in request.path or request.server == "cdn"
        ]

    def sent_bytes(self, pattern: str = "*") -> int:
        """Bytes of files that were handed to the network."""
        return sum(request.sent_bytes for request in self.downloads(pattern))

    def record(self, request: Request) -> None:
        with self._lock:
            self.requests.append(request)

    def take_fault(self, path: str, kinds: Sequence[str]) -> "_Fault | None":
        """The next fault that is meant for a path; it counts as used."""
        with self._lock:
            for fault in self._faults:
                if fault.times > 0 and fault.kind in kinds and fnmatch.fnmatch(path, fault.pattern):
                    fault.times -= 1
                    return fault
        return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, hub: LoopbackHub, role: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.hub = hub
        self.role = role

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that are killed break their connections; that is what they are here for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        # Little in flight: what the server counts as sent is what a client that is killed can have missed.
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().setup()

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        range_match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        self.log = Request(
            server=self.server.role,
            method=self.command,
            path=unquote(urlsplit(self.path).path),
            start=int(range_match[1]) if range_match else None,
            authorization=self.headers.get("Authorization"),
        )
        self.hub = self.server.hub
        self.hub.record(self.log)
        fault = self.hub.take_fault(self.log.path, ["fail"])
        if fault is not None:
            self._send(fault.status, b"out of order", dict(fault.headers))
        elif self.server.role == "cdn":
            self._cdn()
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+)|())", self._raw_path()):
            self._api(unquote(match[1]), match[2] or "revision", unquote(match[3] or "main"))
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self._raw_path()):
            self._resolve(unquote(match[1]), unquote(match[2]), unquote(match[3]))
        else:
            self._send(404, b"", {})

    def _raw_path(self) -> str:
        return urlsplit(self.path).path

    def _open(self, repo_id: str) -> Repository | None:
        """The repository, if there is one and this client may read it; answers otherwise."""
        repository = self.hub.repositories.get(repo_id)
        if repository is None:
            self._refuse(404, "RepoNotFound")
            return None
        is_known = self.log.authorization == f"Bearer {self.hub.token}"
        is_locked = repository.access == "refused" or (repository.access != "open" and not is_known)
        # The real Hub shows the tree of a gated repository to everyone, and guards its files.
        if is_locked and (repository.access == "private" or "/resolve/" in self.path):
            self._refuse(*_FORBIDDEN[repository.access])
            return None
        return repository

    def _refuse(self, status: int, code: str) -> None:
        self._send(status, json.dumps({"error": code}).encode(), {"X-Error-Code": code})

    def _commit(self, repository: Repository, revision: str) -> str | None:
        commit = repository.branches.get(revision, revision)
        if commit not in repository.commits:
            self._refuse(404, "RevisionNotFound")
            return None
        return commit

    def _api(self, repo_id: str, what: str, revision: str) -> None:
        repository = self._open(repo_id)
        commit = self._commit(repository, revision) if repository else None
        if repository is None or commit is None:
            return
        blobs = repository.commits[commit]
        if what == "tree":
            self._tree(blobs)
            return
        siblings = [{"rfilename": path} for path in blobs]
        is_private = repository.access == "private"
        document = {"id": repo_id, "modelId": repo_id, "sha": commit, "private": is_private, "siblings": siblings}
        self._send(200, json.dumps({**document, "tags": []}).encode(), {"Content-Type": "application/json"})

    def _tree(self, blobs: Mapping[str, Blob]) -> None:
        entries: list[dict[str, Any]] = []
        for path, blob in blobs.items():
            entry = {"type": "file", "path": path, "size": len(blob.content), "oid": blob.git_sha1}
            if blob.is_lfs:
                entry["lfs"] = {"oid": blob.sha256, "size": len(blob.content), "pointerSize": 133}
            entries.append(entry)
        entries += [{"type": "directory", "path": path, "size": 0, "oid": "0" * 40} for path in _directories(blobs)]
        query = parse_qs(urlsplit(self.path).query)
        first = int(query.get("cursor", ["0"])[0])
        page = entries[first : first + self.hub.page_size]
        headers = {"Content-Type": "application/json"}
        if first + len(page) < len(entries):
            base = f"{self.hub.endpoint}{self._raw_path()}?recursive=true&expand=false"
            headers["Link"] = f'<{base}&cursor={first + len(page)}>; rel="next"'
        self._send(200, json.dumps(page).encode(), headers)

    def _resolve(self, repo_id: str, revision: str, path: str) -> None:
        repository = self._open(repo_id)
        commit = self._commit(repository, revision) if repository else None
        if repository is None or commit is None:
            return
        blob = repository.commits[commit].get(path)
        if blob is None:
            self._refuse(404, "EntryNotFound")
            return
        headers = {"X-Repo-Commit": commit}
        if blob.is_lfs and self.hub.cdn_endpoint != self.hub.endpoint:
            headers |= {"X-Linked-ETag": f'"{blob.sha256}"', "X-Linked-Size": str(len(blob.content))}
            headers["Location"] = f"{self.hub.cdn_endpoint}/{quote(repo_id)}/{commit}/{quote(path)}?signature=abc"
            self._send(302, b"", headers)
            return
        self._send_blob(blob, {**headers, "ETag": f'"{blob.etag}"', "Accept-Ranges": "bytes"})

    def _cdn(self) -> None:
        owner, name, commit, path = self.log.path.lstrip("/").split("/", 3)
        blob = self.hub.repositories[f"{owner}/{name}"].commits[commit][path]
        self._send_blob(blob, {"ETag": f'"{hashlib.md5(blob.content).hexdigest()}"', "Accept-Ranges": "bytes"})

    def _send_blob(self, blob: Blob, headers: dict[str, str]) -> None:
        content = blob.content
        kinds = [] if self.command == "HEAD" else ["corrupt", "shorten"]
        fault = self.hub.take_fault(self.log.path, kinds)
        if fault is not None:
            content = content[: len(content) // 2] if fault.kind == "shorten" else bytes(len(content))
        start = 0 if self.log.start is None or self.hub.ignore_ranges else self.log.start
        if start >= len(content) > 0:
            self._send(416, b"", {"Content-Range": f"bytes */{len(content)}"})
            return
        if start or (self.log.start is not None and not self.hub.ignore_ranges):
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self._send(206, content[start:], headers)
        else:
            self._send(200, content, headers)

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.log.status = status
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        fault = self.hub.take_fault(self.log.path, ["cut", "stall"]) if status in (200, 206) else None
        size = self.hub.slice_bytes
        for first in range(0, len(body), size):
            part = body[first : first + size]
            if fault is not None and first + len(part) > fault.after_bytes:
                self._write(part[: max(0, fault.after_bytes - first)])
                self._break(fault)
                return
            self._write(part)

    def _write(self, part: bytes) -> None:
        self.wfile.write(part)
        self.log.sent_bytes += len(part)
        if self.hub.bytes_per_second is not None and part:
            time.sleep(len(part) / self.hub.bytes_per_second)

    def _break(self, fault: _Fault) -> None:
        self.close_connection = True
        if fault.kind == "stall":
            self.connection.recv(1)  # until the client gives up
        self.connection.shutdown(socket.SHUT_RDWR)


def _directories(paths: Mapping[str, Blob]) -> list[str]:
    parents = {parent.as_posix() for path in paths for parent in Path(path).parents}
    return sorted(parents - {".", "/"})


def go_online(monkeypatch: pytest.MonkeyPatch, hub: LoopbackHub | None = None) -> None:
    """Let this test reach the network, which is this machine; a Hub given becomes the one that is asked by default."""
    from huggingface_hub import constants

    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    if hub is not None:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)


def publish_tiny_model(hub: LoopbackHub, repo_id: str, folder: Path, architecture: str = "llama") -> str:
    """Build a random model of a real architecture in a folder, publish it, and return the commit.

    Unlike `hub.publish_folder(repo_id, DEMO_FOLDER)` this needs MLX, and answers noise.
    """
    from tests.tiny_models import build_model

    return hub.publish_folder(repo_id, build_model(folder, architecture))
