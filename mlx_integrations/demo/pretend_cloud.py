"""A server on this machine that plays the cloud in the tour: real HTTP, and a note of everything that reaches it.

It speaks as much of OpenAI's protocol as a streamed chat needs:
https://platform.openai.com/docs/api-reference/chat-streaming.
"""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from types import TracebackType
from typing import Any, Final

__all__ = ["PretendCloud"]

_WORD: Final = re.compile(r"\s*\S+")


class PretendCloud:
    """Gives every question the same answer, word by word. Runs in a `with` block.

    Args:
        answer: What it says.

    Attributes:
        requests: The body of every request that came, in order.
    """

    def __init__(self, answer: str) -> None:
        self.requests: list[dict[str, Any]] = []
        self._server = _Server(answer, self.requests)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, name="mlxi-pretend-cloud", daemon=True
        )

    @property
    def base_url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> "PretendCloud":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingMixIn, TCPServer):
    # Not `http.server.HTTPServer`, which asks for the name of this machine: where nobody answers, that takes seconds.
    daemon_threads = True

    def __init__(self, answer: str, requests: list[dict[str, Any]]) -> None:
        self.answer = answer
        self.requests = requests
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        """Note a request, and stream the answer."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append(body)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        words = _WORD.findall(self.server.answer)
        for word in words:
            self._send({"choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]})
        self._send({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        counts = {"prompt_tokens": len(body["messages"]), "completion_tokens": len(words)}
        self._send({"choices": [], "usage": {**counts, "total_tokens": sum(counts.values())}})
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the page is the tour's."""

    def _send(self, event: dict[str, Any]) -> None:
        frame = {"id": "answer-1", "object": "chat.completion.chunk", "created": 0, "model": "cloud", **event}
        self.wfile.write(f"data: {json.dumps(frame)}\n\n".encode())
