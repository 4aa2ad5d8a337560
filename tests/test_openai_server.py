"""The server that tests ask instead of a cloud keeps its script, records everything, and leaves nothing behind."""

import json
import threading
import urllib.request

from tests.openai_server import OpenAIServer


def _post(server: OpenAIServer, **body: object) -> dict[str, object]:
    data = json.dumps({"model": "test-model", "messages": [{"role": "user", "content": "Hi"}], **body}).encode()
    headers = {"Content-Type": "application/json", "X-Canary": "in a header"}
    request = urllib.request.Request(f"{server.base_url}/chat/completions", data, headers)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
        found: dict[str, object] = json.load(answer)
        return found


def test_answers_follow_the_script_and_requests_are_kept() -> None:
    with OpenAIServer() as server:
        server.answer("one")
        server.answer(tool_calls=[("add", {"a": 1})])
        texts = [str(_post(server, canary="in the body ä")) for _ in range(3)]
        assert "'one'" in texts[0] and '{"a": 1}' in texts[1] and "Hello from the server." in texts[2]
        assert server.saw("in a header") and server.saw("in the body ä") and not server.saw("nowhere")
        assert len(server.calls("chat")) == 3 and server.calls("models") == []


def test_a_server_that_closes_ends_what_stalls_and_every_thread() -> None:
    before = set(threading.enumerate())
    failures: list[Exception] = []

    def ask(server: OpenAIServer) -> None:
        try:
            _post(server)
        except OSError as error:
            failures.append(error)

    with OpenAIServer() as server:
        server.stall(times=3)
        clients = [threading.Thread(target=ask, args=(server,)) for _ in range(3)]
        for client in clients:
            client.start()
        while len(server.calls("chat")) < 3:
            threading.Event().wait(0.01)
    for client in clients:
        client.join(60)
    assert len(failures) == 3
    assert set(threading.enumerate()) <= before


def test_what_stalls_goes_on_when_it_is_released() -> None:
    with OpenAIServer() as server:
        server.stall(text="at last")
        server.release()
        assert "at last" in str(_post(server))
