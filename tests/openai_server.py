"""A server on this machine that speaks the protocol of OpenAI: real sockets, real streams, and faults on demand.

    with OpenAIServer() as server:
        server.answer("Hello there.")
        server.fail(status=429, retry_after=3)
        server.cut(chunks=2, text="one two three")
        backend = OpenAIChatBackend(base_url=server.base_url, model="test-model")
        ...
        assert server.calls("chat")[0].body["model"] == "test-model"
        assert not server.saw("canary")

Every request takes the next entry of the script; a server whose script is at its end answers with `otherwise`. There is
one script for each of `chat`, `embeddings`, `models` and `health`. A word is a token, and is streamed as one chunk;
chunks are counted without the empty one with the role that comes first, as it does from real servers. Nothing here
waits for a time: what stalls goes on after `release()`, and ends when the client leaves or the server is closed.
"""

import base64
import contextlib
import hashlib
import json
import re
import select
import socket
import struct
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal
from urllib.parse import urlsplit

__all__ = ["Fault", "OpenAIServer", "Recorded", "Reply", "refused_address"]

Where = Literal["chat", "embeddings", "models", "health"]
_PATHS: dict[str, Where] = {
    "/v1/chat/completions": "chat",
    "/v1/embeddings": "embeddings",
    "/v1/models": "models",
    "/health": "health",
}
_WORD = re.compile(r"\s*\S+|\s+$")
_ARGUMENT_PIECE_CHARACTERS = 6
_POLL_SECONDS = 0.01  # how often a stalled answer looks whether its client is still there


@dataclass(kw_only=True, eq=False)
class Recorded:
    """One request as it arrived.

    Attributes:
        headers: Names in lower case.
        raw: The bytes of the body.
        body: The same as JSON; `None` without one.
        at: When it came, by `time.monotonic`.
        client_left: Whether the client closed the connection before the answer was over.
        done: Set when the server is through with it.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    raw: bytes
    body: Any
    at: float
    client_left: bool = False
    done: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What goes wrong with an answer, after how many chunks; `None` means before its first byte.

    Attributes:
        kind: `status` (an error instead of an answer), `reset` (the connection is reset), `cut` (it is closed in the
            middle of a stream), `end` (the stream ends properly, without a finish reason or `[DONE]`), `error` (an
            error object in the stream), `garbage` (an event that is not JSON), `stall` (nothing more until `release`).
    """

    kind: Literal["status", "reset", "cut", "end", "error", "garbage", "stall"]
    chunks: int | None = None
    status: int = 500
    headers: Mapping[str, str] = field(default_factory=dict)
    error: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One entry of the script.

    Attributes:
        tool_calls: Name and arguments of each; arguments that are a text are sent as they are, JSON or not.
        finish_reason: Follows from the parts when `None`.
        usage: Counted in words when `None`; `{}` sends none.
        reasoning_field: Which field of a delta carries reasoning.
        pieces: The text in pieces of your own instead of words.
        events: The data of a stream's events, sent as they are instead of everything else.
    """

    text: str = ""
    reasoning: str = ""
    tool_calls: Sequence[tuple[str, Mapping[str, Any] | str]] = ()
    finish_reason: str | None = None
    usage: Mapping[str, Any] | None = None
    reasoning_field: str = "reasoning_content"
    pieces: Sequence[str] | None = None
    events: Sequence[str] | None = None
    fault: Fault | None = None


class OpenAIServer:
    """An OpenAI-compatible server on 127.0.0.1. Start it with `with`, or with `start` and `close`.

    Args:
        models: What `/v1/models` lists.
        api_key: What requests have to carry; `None` lets everyone in.
        context_tokens: Longer prompts are refused as OpenAI does; `None` for no limit.
        dimensions: Coordinates of an embedding.
        otherwise: Makes the answer when the script is at its end.
        count_prompt: Tokens of the body of a chat; words otherwise.
        count_text: Tokens of a text to embed; words otherwise.
    """

    def __init__(
        self,
        *,
        models: Sequence[str] = ("test-model",),
        api_key: str | None = None,
        context_tokens: int | None = None,
        dimensions: int = 8,
        otherwise: Callable[[Recorded], Reply] | None = None,
        count_prompt: Callable[[Any], int] | None = None,
        count_text: Callable[[str], int] | None = None,
    ) -> None:
        self.models = tuple(models)
        self.api_key = api_key
        self.context_tokens = context_tokens
        self.dimensions = dimensions
        self.otherwise = otherwise or (lambda request: Reply(text="Hello from the server."))
        self.count_prompt = count_prompt or _words_of_prompt
        self.count_text = count_text or (lambda text: len(_WORD.findall(text)))
        self.requests: list[Recorded] = []
        self.edit_embeddings: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] = lambda data: data
        self._scripts: dict[Where, deque[Reply]] = defaultdict(deque)
        self._lock = threading.Lock()
        self._released = threading.Event()
        self.is_closing = threading.Event()
        self._server = _Server(self)
        self._thread: threading.Thread | None = None

    def start(self) -> "OpenAIServer":
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def close(self) -> None:
        """End every answer, and every thread; a second call does nothing."""
        if self.is_closing.is_set():
            return
        self.is_closing.set()
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join()
        self._server.close_connections()
        self._server.server_close()

    def __enter__(self) -> "OpenAIServer":
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def root_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def base_url(self) -> str:
        """What goes into `base_url=`."""
        return f"{self.root_url}/v1"

    # The script

    def reply(self, reply: Reply, *, on: Where = "chat", times: int = 1) -> None:
        """Add an entry to the script."""
        with self._lock:
            self._scripts[on].extend([reply] * times)

    def answer(self, text: str = "", *, times: int = 1, **parts: Any) -> None:
        """Answer in full. `parts` are the fields of `Reply`, such as `tool_calls=[("add", {"a": 1})]`."""
        self.reply(Reply(text=text, **parts), times=times)

    def send_events(self, *events: str) -> None:
        """Answer with events of your own, sense or nonsense."""
        self.reply(Reply(events=events))

    def fail(
        self,
        *,
        status: int,
        message: str = "it failed",
        code: str | int | None = None,
        type: str | None = None,
        retry_after: float | str | None = None,
        on: Where = "chat",
        times: int = 1,
    ) -> None:
        """Answer with an error, before the first byte of an answer."""
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        error = {"message": message, "type": type, "param": None, "code": code}
        self.reply(Reply(fault=Fault(kind="status", status=status, headers=headers, error=error)), on=on, times=times)

    def overflow(self, *, prompt_tokens: int, limit_tokens: int, times: int = 1) -> None:
        """Refuse the prompt as too long, in OpenAI's words."""
        message = _overflow_text(prompt_tokens, limit_tokens)
        self.fail(
            status=400, message=message, code="context_length_exceeded", type="invalid_request_error", times=times
        )

    def reset(self, *, on: Where = "chat", times: int = 1) -> None:
        """Reset the connection before the first byte."""
        self.reply(Reply(fault=Fault(kind="reset")), on=on, times=times)

    def cut(self, *, chunks: int, times: int = 1, **parts: Any) -> None:
        """Close the connection in the middle of an answer; `chunks=0` is after the role."""
        self._faulty(Fault(kind="cut", chunks=chunks), parts, times)

    def end_early(self, *, chunks: int, times: int = 1, **parts: Any) -> None:
        """End the stream properly, but without a finish reason and without `[DONE]`."""
        self._faulty(Fault(kind="end", chunks=chunks), parts, times)

    def error_after(
        self, *, chunks: int, message: str = "it broke", code: str | int | None = None, times: int = 1, **parts: Any
    ) -> None:
        """Put an error object into the stream."""
        error = {"message": message, "type": "server_error", "param": None, "code": code}
        self._faulty(Fault(kind="error", chunks=chunks, error=error), parts, times)

    def garbage_after(self, *, chunks: int, times: int = 1, **parts: Any) -> None:
        """Put something into the stream that is not JSON."""
        self._faulty(Fault(kind="garbage", chunks=chunks), parts, times)

    def stall(self, *, chunks: int | None = None, times: int = 1, **parts: Any) -> None:
        """Say nothing more after so many chunks, or nothing at all, until `release`."""
        self._faulty(Fault(kind="stall", chunks=chunks), parts, times)

    def reply_with_silence(self, *, on: Where, times: int = 1) -> None:
        """Say nothing at all to a request that is no chat, until `release`."""
        self.reply(Reply(fault=Fault(kind="stall")), on=on, times=times)

    def release(self) -> None:
        """Let everything that stalls, now or later, go on."""
        self._released.set()

    def _faulty(self, fault: Fault, parts: Mapping[str, Any], times: int) -> None:
        usual: dict[str, Any] = {} if "text" in parts or "tool_calls" in parts else {"text": "one two three four"}
        self.reply(Reply(fault=fault, **usual, **parts), times=times)

    # What was asked

    def calls(self, where: Where) -> list[Recorded]:
        """The requests of one kind, in order."""
        with self._lock:
            return [request for request in self.requests if _PATHS.get(request.path) == where]

    def saw(self, canary: str) -> bool:
        """Whether a text came here in any request: its path, its headers or its body."""
        with self._lock:
            return any(
                canary in part
                for request in self.requests
                for part in (
                    request.path,
                    str(request.headers),
                    request.raw.decode("utf-8", "replace"),
                    json.dumps(request.body, ensure_ascii=False),
                )
            )

    def take(self, where: Where | None, request: Recorded) -> Reply | None:
        """Record a request, and take the next entry of its script."""
        with self._lock:
            self.requests.append(request)
            script = self._scripts.get(where) if where else None
            return script.popleft() if script else None

    def wait(self, is_gone: Callable[[], bool]) -> bool:
        """Wait for `release`. False if the client left, or the server is closing, before."""
        while not self._released.wait(_POLL_SECONDS):
            if self.is_closing.is_set() or is_gone():
                return False
        return True


@contextlib.contextmanager
def refused_address() -> Iterator[str]:
    """The address of a server that is not there: connections to it are refused."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody else gets the port, and nobody listens on it
        yield f"http://127.0.0.1:{taken.getsockname()[1]}/v1"


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = True
    request_queue_size = 128

    def __init__(self, owner: OpenAIServer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.owner = owner
        self._connections: set[socket.socket] = set()
        self._guard = threading.Lock()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that leave break their connections; that is what they are here for."""

    def track(self, connection: socket.socket, *, is_open: bool) -> None:
        with self._guard:
            (self._connections.add if is_open else self._connections.discard)(connection)

    def close_connections(self) -> None:
        with self._guard:
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().setup()
        self.server.track(self.connection, is_open=True)
        if self.server.owner.is_closing.is_set():
            self.connection.shutdown(socket.SHUT_RDWR)

    def finish(self) -> None:
        self.server.track(self.connection, is_open=False)
        with contextlib.suppress(OSError):
            super().finish()

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            body = json.loads(raw) if raw else None
        except ValueError:
            body = None
        self.recorded = Recorded(
            method=self.command,
            path=urlsplit(self.path).path,
            headers={name.lower(): value for name, value in self.headers.items()},
            raw=raw,
            body=body,
            at=time.monotonic(),
        )
        owner, where = self.server.owner, _PATHS.get(self.recorded.path)
        scripted = owner.take(where, self.recorded)
        try:
            self._answer(owner, where, scripted)
        except (BrokenPipeError, ConnectionResetError):
            self.recorded.client_left = True
            self.close_connection = True
        finally:
            self.recorded.done.set()

    def _answer(self, owner: OpenAIServer, where: Where | None, scripted: Reply | None) -> None:
        fault = scripted.fault if scripted else None
        if fault is not None and fault.chunks is None and not self._goes_on(owner, fault):
            return
        if where is None:
            self._error(404, f"no such path: {self.recorded.path}", "not_found")
        elif owner.api_key is not None and self.recorded.headers.get("authorization") != f"Bearer {owner.api_key}":
            self._error(401, "Incorrect API key provided.", "invalid_api_key")
        elif where == "health":
            self._json(200, {"status": "ok"})
        elif where == "models":
            models = [{"id": name, "object": "model", "created": 0, "owned_by": "test"} for name in owner.models]
            self._json(200, {"object": "list", "data": models})
        elif self.recorded.body.get("model") not in owner.models:
            self._error(404, f"The model `{self.recorded.body.get('model')}` does not exist", "model_not_found")
        elif where == "embeddings":
            self._embeddings(owner)
        else:
            self._chat(owner, scripted or owner.otherwise(self.recorded))

    def _goes_on(self, owner: OpenAIServer, fault: Fault) -> bool:
        """Play a fault that comes before the first byte; whether an answer follows."""
        if fault.kind == "stall":
            if owner.wait(self._client_is_gone):
                return True
            self.recorded.client_left = not owner.is_closing.is_set()
        elif fault.kind == "status":
            self._json(fault.status, {"error": fault.error}, fault.headers)
            return False
        elif fault.kind == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        self.close_connection = True
        return False

    def _client_is_gone(self) -> bool:
        if not select.select([self.connection], [], [], 0)[0]:
            return False
        try:
            return not self.connection.recv(1, socket.MSG_PEEK)
        except OSError:
            return True

    def _json(self, status: int, document: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _error(self, status: int, message: str, code: str) -> None:
        error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
        self._json(status, {"error": error})

    def _embeddings(self, owner: OpenAIServer) -> None:
        body = self.recorded.body
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        width = body.get("dimensions") or owner.dimensions
        data = []
        for index, text in enumerate(texts):
            vector = _vector(text, width)
            packed = base64.b64encode(struct.pack(f"<{width}f", *vector)).decode()
            value = packed if body.get("encoding_format") == "base64" else vector
            data.append({"object": "embedding", "index": index, "embedding": value})
        tokens = sum(map(owner.count_text, texts))
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        document = {"object": "list", "model": body["model"], "data": owner.edit_embeddings(data), "usage": usage}
        self._json(200, document)

    def _chat(self, owner: OpenAIServer, reply: Reply) -> None:
        body = self.recorded.body
        prompt_tokens = owner.count_prompt(body)
        if owner.context_tokens is not None and prompt_tokens > owner.context_tokens:
            text = _overflow_text(prompt_tokens, owner.context_tokens)
            self._error(400, text, "context_length_exceeded")
            return
        events, usage = _events(body, reply, prompt_tokens)
        if body.get("stream"):
            self._stream(owner, reply, events, usage)
        else:
            self._whole(owner, reply, events, usage)

    def _whole(
        self, owner: OpenAIServer, reply: Reply, events: list[dict[str, Any]], usage: Mapping[str, Any] | None
    ) -> None:
        document = _completion(self.recorded.body["model"], events, usage)
        if reply.fault is None or reply.fault.kind == "stall":
            if reply.fault is None or reply.fault.chunks is None or self._goes_on(owner, reply.fault):
                self._json(200, document)
            return
        encoded = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded[: len(encoded) // 2])
        self.close_connection = True

    def _stream(
        self, owner: OpenAIServer, reply: Reply, events: list[dict[str, Any]], usage: Mapping[str, Any] | None
    ) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if reply.events is not None:
            for data in reply.events:
                self._event(data)
            self._end_of_stream()
            return
        frame = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 0}
        frame["model"] = self.recorded.body["model"]
        # The first event is the role, the last one the finish reason.
        for sent, event in enumerate(events, -1):
            if reply.fault is not None and reply.fault.chunks == sent and not self._plays(owner, reply.fault):
                return
            self._event(json.dumps({**frame, "choices": [{"index": 0, "finish_reason": None, **event}]}))
        if usage is not None and (self.recorded.body.get("stream_options") or {}).get("include_usage"):
            self._event(json.dumps({**frame, "choices": [], "usage": usage}))
        self._event("[DONE]")
        self._end_of_stream()

    def _plays(self, owner: OpenAIServer, fault: Fault) -> bool:
        """Play a fault in the middle of a stream; whether the stream goes on."""
        if fault.kind in ("stall", "reset"):
            return self._goes_on(owner, fault)
        if fault.kind == "error":
            self._event(json.dumps({"error": fault.error}))
            self._end_of_stream()
        elif fault.kind == "garbage":
            self._event('{"choices": [')
            self._end_of_stream()
        elif fault.kind == "end":
            self._end_of_stream()
        else:  # `cut`: the last frame never comes, so that the client can tell
            self.close_connection = True
        return False

    def _event(self, data: str) -> None:
        if self._client_is_gone():
            raise BrokenPipeError
        payload = f"data: {data}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(payload), payload))

    def _end_of_stream(self) -> None:
        self.wfile.write(b"0\r\n\r\n")


def _events(
    body: Mapping[str, Any], reply: Reply, prompt_tokens: int
) -> tuple[list[dict[str, Any]], Mapping[str, Any] | None]:
    """The choices of a stream, role first and finish reason last, and the usage of it all."""
    text, stop_reason = _cut_at_stop(reply.text, _listed(body.get("stop")))
    words = list(reply.pieces) if reply.pieces is not None else _WORD.findall(text)
    limit = body.get("max_completion_tokens", body.get("max_tokens"))
    is_cut = limit is not None and len(words) > limit
    if is_cut:
        words, stop_reason = words[:limit], None
    thoughts = _WORD.findall(reply.reasoning)
    deltas: list[dict[str, Any]] = [{"delta": {reply.reasoning_field: word}} for word in thoughts]
    deltas += [{"delta": {"content": word}, **_logprobs(body, word)} for word in words]
    for index, (name, arguments) in enumerate(reply.tool_calls):
        deltas += _tool_pieces(index, name, arguments if isinstance(arguments, str) else json.dumps(dict(arguments)))
    usual = "length" if is_cut else "tool_calls" if reply.tool_calls else "stop"
    finish: dict[str, Any] = {"delta": {}, "finish_reason": reply.finish_reason or usual}
    if stop_reason is not None:
        finish["stop_reason"] = stop_reason
    completion = len(thoughts) + len(words) + sum(len(str(arguments).split()) for _, arguments in reply.tool_calls)
    usage: Mapping[str, Any] | None = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion,
        "total_tokens": prompt_tokens + completion,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": len(thoughts)},
    }
    if reply.usage is not None:
        usage = dict(reply.usage) or None
    return [{"delta": {"role": "assistant", "content": ""}}, *deltas, finish], usage


def _tool_pieces(index: int, name: str, arguments: str) -> list[dict[str, Any]]:
    """A call as it is streamed: its name first, then its arguments bit by bit."""
    function: dict[str, Any] = {"name": name, "arguments": ""}
    calls = [{"index": index, "id": f"call_{index + 1}", "type": "function", "function": function}]
    for start in range(0, len(arguments), _ARGUMENT_PIECE_CHARACTERS):
        piece = arguments[start : start + _ARGUMENT_PIECE_CHARACTERS]
        calls.append({"index": index, "function": {"arguments": piece}})
    return [{"delta": {"tool_calls": [call]}} for call in calls]


def _completion(model: str, events: list[dict[str, Any]], usage: Mapping[str, Any] | None) -> dict[str, Any]:
    """The same answer in one piece."""
    message: dict[str, Any] = {"role": "assistant", "content": None}
    calls: list[dict[str, Any]] = []
    for event in events[1:-1]:
        for name, value in event["delta"].items():
            if name != "tool_calls":
                message[name] = (message.get(name) or "") + value
            elif "id" in value[0]:
                calls.append({**value[0], "function": dict(value[0]["function"])})
            else:
                calls[-1]["function"]["arguments"] += value[0]["function"]["arguments"]
    if calls:
        message["tool_calls"] = calls
    choice = {"index": 0, "message": message, **{key: value for key, value in events[-1].items() if key != "delta"}}
    document = {"id": "chatcmpl-1", "object": "chat.completion", "created": 0, "model": model, "choices": [choice]}
    return {**document, **({"usage": dict(usage)} if usage else {})}


def _logprobs(body: Mapping[str, Any], word: str) -> dict[str, Any]:
    if not body.get("logprobs"):
        return {}
    rivals = [(word, -0.25), *((f" rival{rank}", -2.0 - rank) for rank in range(20))]
    top = [{"token": token, "logprob": value, "bytes": None} for token, value in rivals[: body.get("top_logprobs", 0)]]
    return {"logprobs": {"content": [{"token": word, "logprob": -0.25, "bytes": None, "top_logprobs": top}]}}


def _listed(stop: str | Sequence[str] | None) -> Sequence[str]:
    return [stop] if isinstance(stop, str) else stop or []


def _cut_at_stop(text: str, stop: Sequence[str]) -> tuple[str, str | None]:
    found = [(text.index(string), string) for string in stop if string and string in text]
    return (text[: min(found)[0]], min(found)[1]) if found else (text, None)


def _words_of_prompt(body: Mapping[str, Any]) -> int:
    texts = [json.dumps(message.get("content")) for message in body["messages"]]
    texts += [json.dumps(tool) for tool in body.get("tools") or []]
    return len(body["messages"]) + sum(len(_WORD.findall(text)) for text in texts)


def _overflow_text(prompt_tokens: int, limit_tokens: int) -> str:
    return (
        f"This model's maximum context length is {limit_tokens} tokens. "
        f"However, your messages resulted in {prompt_tokens} tokens."
    )


def _vector(text: str, width: int) -> list[float]:
    """Numbers of length 1 that nobody could guess from the text; fewer of them are the beginning of more."""
    digest = hashlib.shake_128(text.encode("utf-8", "surrogatepass")).digest(2 * width)
    values = [value / 32767.5 - 1 for value in struct.unpack(f"<{width}H", digest)]
    length = sum(value * value for value in values) ** 0.5
    return [value / length for value in values]


def scripted(*replies: Reply | str) -> Callable[[Recorded], Reply]:
    """Answers to give over and over, in order: for `otherwise`."""
    made = [Reply(text=reply) if isinstance(reply, str) else replace(reply) for reply in replies]
    lock, count = threading.Lock(), iter(range(10**9))

    def answer(request: Recorded) -> Reply:
        with lock:
            return made[next(count) % len(made)]

    return answer
