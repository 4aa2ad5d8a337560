"""`CachedBackend`: the same question, asked again, gets the answer that it got before.

    ChatRequest -> answer_record.key_of -> ResponseStore.get --found--> the answer in two pieces
                                                  |
                                               missing --> the backend; a whole answer without a flaw is kept

Kept is an answer to a request that would be answered in the same way again, if it came to its own end: not one that was
cut by the token limit, broke off, or has a tool call that cannot be accepted. One that must stay on this machine is
kept in memory only.
"""

import asyncio
import hashlib
import threading
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from mlx_integrations.protocols import ChatBackend
from mlx_integrations.router.answer_record import answer_from, answer_to, key_of
from mlx_integrations.router.backend import RouterBackend
from mlx_integrations.router.policy import Policy
from mlx_integrations.router.read import RequestReader
from mlx_integrations.router.response_cache import ResponseStore
from mlx_integrations.types import ChatChunk, ChatMessage, ChatRequest, ChatResult, ModelCapabilities, ToolSpec

__all__ = ["CacheCounts", "CachedBackend"]

_DEFAULT_POLICY: Final = Policy()


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheCounts:
    """How calls went.

    Attributes:
        hits: Answered from the cache.
        misses: Looked up and not found.
        passed: Not looked up: sampled, private on a disk, or with a value that makes no key.
    """

    hits: int = 0
    misses: int = 0
    passed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lookup:
    key: str | None
    is_private: bool


class CachedBackend:
    """A `ChatBackend` in front of another one.

    An answer from the cache has the usage that it had at first, with the whole prompt counted as cached. Two calls that
    ask the same at the same time are both answered by the backend.

    Args:
        backend: Answers what is not known.
        store: Keeps answers.
        policy: Says what makes a request private; that of the router, if `backend` is one.
        private: Whether all requests are.
        cache_sampled: Whether to keep answers that chance had a part in, too: those without `temperature=0` or a seed.
            The same question then gets the same answer, until it is forgotten.
        identity: Whatever else answers depend on, such as the version of a model behind an endpoint.
    """

    def __init__(
        self,
        backend: ChatBackend,
        store: ResponseStore,
        *,
        policy: Policy | None = None,
        private: bool = False,
        cache_sampled: bool = False,
        identity: str = "",
    ) -> None:
        self._backend = backend
        self._store = store
        if policy is None:
            policy = backend.router.policy if isinstance(backend, RouterBackend) else _DEFAULT_POLICY
        self._reader = RequestReader(policy)
        self._private = private
        self._cache_sampled = cache_sampled
        self._identity = identity
        self._asked: tuple[str, ...] | None = None
        self._counts = CacheCounts()
        self._lock = threading.Lock()

    @property
    def model_id(self) -> str:
        """The name of the model that answers."""
        return self._backend.model_id

    @property
    def capabilities(self) -> ModelCapabilities:
        """What the model can do."""
        return self._backend.capabilities

    @property
    def counts(self) -> CacheCounts:
        """How calls went so far."""
        return self._counts

    def stream(self, request: ChatRequest) -> Generator[ChatChunk, None, None]:
        """Answer in pieces; the last one carries `finish`."""
        lookup = self._look(request)
        known = None if lookup.key is None else self._found(self._store.get(lookup.key))
        if known is not None:
            yield from known
            return
        parts: list[ChatChunk] = []
        with closing(self._backend.stream(request)) as chunks:
            for chunk in chunks:
                parts.append(chunk)
                if chunk.finish is not None and (value := self._kept(lookup, parts)) is not None:
                    self._store.put(*value)
                yield chunk

    async def astream(self, request: ChatRequest) -> AsyncGenerator[ChatChunk, None]:
        """The same for event loops; a disk is read and written in a thread."""
        lookup = await asyncio.to_thread(self._look, request) if self._asked is None else self._look(request)
        known = None
        if lookup.key is not None:
            is_slow = self._store.is_on_disk
            data = await asyncio.to_thread(self._store.get, lookup.key) if is_slow else self._store.get(lookup.key)
            known = self._found(data)
        if known is not None:
            for chunk in known:
                yield chunk
            return
        parts: list[ChatChunk] = []
        async with aclosing(self._backend.astream(request)) as chunks:
            async for chunk in chunks:
                parts.append(chunk)
                if chunk.finish is not None and (value := self._kept(lookup, parts)) is not None:
                    await asyncio.to_thread(self._store.put, *value)
                yield chunk

    def tokenize(self, text: str) -> list[int]:
        """Token ids of a plain text, without special tokens added."""
        return self._backend.tokenize(text)

    def count_prompt_tokens(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec] = ()) -> int:
        """Tokens that the messages and tools take."""
        return self._backend.count_prompt_tokens(messages, tools)

    def _look(self, request: ChatRequest) -> _Lookup:
        is_private = self._private or self._reader.read_chat(request).is_private
        if not is_private and isinstance(self._backend, RouterBackend):
            is_private = self._backend.is_private(request)  # it may know more than the policy says
        key = None
        if not (is_private and self._store.is_on_disk) and (self._cache_sampled or _is_repeatable(request)):
            key = key_of(request, *self._who())
        if key is None:
            self._count(passed=1)
        return _Lookup(key=key, is_private=is_private)

    def _found(self, data: bytes | None) -> tuple[ChatChunk, ...] | None:
        result = None if data is None else answer_from(data)
        if result is None:
            self._count(misses=1)
            return None
        self._count(hits=1)
        usage = replace(result.finish.usage, cached_tokens=result.finish.usage.prompt_tokens)
        answer = ChatChunk(
            text=result.text, reasoning=result.reasoning, tool_calls=result.tool_calls, logprobs=result.logprobs
        )
        end = ChatChunk(finish=replace(result.finish, usage=usage))
        return (end,) if answer == ChatChunk() else (answer, end)

    def _kept(self, lookup: _Lookup, parts: Sequence[ChatChunk]) -> tuple[str, bytes] | None:
        """What to keep of an answer, if anything."""
        result = ChatResult.join(parts)
        if lookup.is_private:
            # So that what follows from it in the conversation counts as private as well.
            self._reader.scanner.remember_answer(result.text)
        if lookup.key is None or result.finish.reason == "length" or result.invalid_tool_calls:
            return None
        try:
            return lookup.key, answer_to(result)
        except TypeError:
            return None

    def _who(self) -> tuple[str, ...]:
        """Who answers: names of the model or of all candidates, and the state of a model's files."""
        if self._asked is None:
            asked = [self._backend.model_id, self._identity]
            if isinstance(self._backend, RouterBackend):
                router = self._backend.router
                asked += [router.policy.mode, str(router.policy.allow_cloud), *router.roster.candidates]
            path = getattr(self._backend, "path", None)
            if isinstance(path, Path):
                asked.append(_state_of(path))
            self._asked = tuple(asked)
        return self._asked

    def _count(self, *, hits: int = 0, misses: int = 0, passed: int = 0) -> None:
        with self._lock:
            self._counts = CacheCounts(
                hits=self._counts.hits + hits,
                misses=self._counts.misses + misses,
                passed=self._counts.passed + passed,
            )


def _is_repeatable(request: ChatRequest) -> bool:
    """Whether the same request gets the same answer; without a temperature, the model's own files may set one."""
    return request.sampling.temperature == 0 or request.sampling.seed is not None


def _state_of(folder: Path) -> str:
    """Names, sizes and times of a model's files: other weights under the same name give other answers."""
    state = hashlib.sha256()
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        known = path.stat()
        state.update(f"{path.name}\0{known.st_size}\0{known.st_mtime_ns}\0".encode("utf-8", "surrogatepass"))
    return state.hexdigest()
