"""`MLXChatBackend`: a chat model in this process, as the other rooms see it.

A request is rendered, tokenised, checked and its grammar compiled in the caller's thread; only then does the worker
thread see it. Sync and async share everything but the channel they wait on.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

from llguidance import LLMatcher

from mlx_integrations.errors import ContextOverflowError, InvalidRequestError, UnsupportedSchemaError
from mlx_integrations.runtime.channels import AsyncChannel, SyncChannel
from mlx_integrations.runtime.chat.answer import Answer
from mlx_integrations.runtime.chat.grammar import answer_grammar
from mlx_integrations.runtime.chat.model_text import ModelText, load_model_text
from mlx_integrations.runtime.chat.prompt_messages import clean_text
from mlx_integrations.runtime.chat.rows import Event, Row
from mlx_integrations.runtime.chat.sampling import Sampling, resolve_sampling
from mlx_integrations.runtime.engine import Runtime
from mlx_integrations.runtime.folder import read_folder
from mlx_integrations.runtime.loaders import ChatLoader
from mlx_integrations.types import ChatChunk, ChatMessage, ChatRequest, ModelCapabilities, ToolChoice, ToolSpec

__all__ = ["MLXChatBackend"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """A request that passed every check."""

    prompt: list[int]
    sampling: Sampling
    matcher: LLMatcher | None
    end_ids: tuple[int, ...]
    answer: Answer

    def row(self, channel: SyncChannel[Event] | AsyncChannel[Event]) -> Row:
        """The job as the worker thread takes it."""
        return Row(
            prompt=self.prompt,
            sampling=self.sampling,
            matcher=self.matcher,
            end_ids=self.end_ids,
            post=channel.post,
        )


class MLXChatBackend:
    """Chats with one model folder on a runtime; implements `ChatBackend`.

    Args:
        path: The model's folder.
        runtime: Where it runs.
        model_id: The name it is known by; the folder's name otherwise.

    Raises:
        ModelLoadError: The folder is not a model.
    """

    def __init__(self, path: str | Path, *, runtime: Runtime, model_id: str | None = None) -> None:
        self._folder = read_folder(Path(path))
        self._loader = ChatLoader(self._folder)
        self._runtime = runtime
        self._model_id = model_id or self._folder.path.name
        self._text: ModelText | None = None
        self._lock = threading.Lock()

    @property
    def model_id(self) -> str:
        """The name this model is known by."""
        return self._model_id

    @property
    def runtime(self) -> Runtime:
        """Where it runs."""
        return self._runtime

    @property
    def path(self) -> Path:
        """The model's folder."""
        return self._folder.path

    @property
    def capabilities(self) -> ModelCapabilities:
        """What the model can do, by its configuration and its chat template."""
        return self.text.capabilities

    @property
    def text(self) -> ModelText:
        """The tokenizer and template, loaded at first use."""
        with self._lock:
            if self._text is None:
                self._runtime.prepare()
                self._text = load_model_text(self._folder)
            return self._text

    def tokenize(self, text: str) -> list[int]:
        """Token ids of a plain text, without special tokens added."""
        return self.text.encode(clean_text(text), add_special_tokens=False)

    def count_prompt_tokens(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec] = ()) -> int:
        """Tokens that the messages and tools take once rendered."""
        request = ChatRequest(messages=tuple(messages), tools=tuple(tools), tool_choice=ToolChoice())
        return len(self.text.prompt(request)[1])

    def stream(self, request: ChatRequest) -> Generator[ChatChunk, None, None]:
        """Answer in pieces; the last one carries `finish`. Closing the generator frees the row at the next step."""
        job = self._check(request)
        channel: SyncChannel[Event] = SyncChannel()
        row = job.row(channel)
        try:
            self._runtime.submit(self._loader, row)
            while not job.answer.is_done:
                yield from job.answer.feed(channel.get())
        finally:
            row.cancelled = True

    async def astream(self, request: ChatRequest) -> AsyncGenerator[ChatChunk, None]:
        """The same for event loops; checking a long prompt happens off the loop."""
        job = await asyncio.to_thread(self._check, request)
        channel: AsyncChannel[Event] = AsyncChannel()
        row = job.row(channel)
        channel.on_lost = row.cancel
        try:
            self._runtime.submit(self._loader, row)
            while not job.answer.is_done:
                for chunk in job.answer.feed(await channel.get()):
                    yield chunk
        finally:
            row.cancelled = True

    def _check(self, request: ChatRequest) -> _Job:
        """Everything that can be wrong with a request, before the worker thread sees it."""
        text = self.text
        _check_tool_names(request)
        rendered, prompt = text.prompt(request)
        window = self._folder.context_window
        if len(prompt) >= window:
            raise ContextOverflowError(
                f"The prompt has {len(prompt):,} tokens; the window of `{self._model_id}` holds {window:,}, answer "
                "included.",
                prompt_tokens=len(prompt),
                limit_tokens=window,
            )
        if prompt and max(prompt) >= text.logits_size:
            raise InvalidRequestError(
                f"The prompt contains the token {max(prompt)}; `{self._model_id}` knows {text.logits_size} tokens.",
                field="messages",
                hint="The tokenizer does not belong to these weights, or the text uses a token that was added later.",
            )
        if not prompt:
            raise InvalidRequestError("The prompt is empty.", field="messages", hint="Send some text.")
        sampling = resolve_sampling(
            request.sampling,
            generation_config=self._folder.generation_config,
            vocabulary_size=text.logits_size,
            prompt_tokens=len(prompt),
            context_window=window,
            default_max_tokens=self._runtime.settings.default_max_tokens,
        )
        matcher = self._matcher(request, in_reasoning=rendered.in_reasoning)
        parser = text.syntax.parser(
            tools=() if request.tool_choice.mode == "none" else request.tools,
            in_reasoning=rendered.in_reasoning,
            forced_call=request.tool_choice.mode in ("any", "tool"),
        )
        answer = Answer(
            model_id=self._model_id,
            prompt_tokens=len(prompt),
            detokenizer=text.detokenizer(),
            parser=parser,
            stops=(*request.sampling.stop, *rendered.stop),
            decode=text.decode,
            output=request.output,
        )
        return _Job(prompt=prompt, sampling=sampling, matcher=matcher, end_ids=text.end_ids, answer=answer)

    def _matcher(self, request: ChatRequest, *, in_reasoning: bool) -> LLMatcher | None:
        if not request.tools and request.output is None and request.tool_choice.mode in ("auto", "none"):
            return None
        compiler = self.text.compiler
        grammar = answer_grammar(
            request,
            self.text.syntax,
            compiler,
            may_think=self.text.capabilities.reasoning,
            in_reasoning=in_reasoning,
        )
        if grammar is None:
            return None
        try:
            return compiler.compile(grammar)
        except UnsupportedSchemaError:
            # Each tool alone can be enforced, all together are too much: an ordinary answer does not need them.
            if request.tool_choice.mode == "auto" and request.output is None:
                return None
            raise


def _check_tool_names(request: ChatRequest) -> None:
    names = [tool.name for tool in request.tools]
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise InvalidRequestError(
            f"Two tools are named `{doubled[0]}`.", field="tools", hint="Give every tool a name of its own."
        )
    if any(not name for name in names):
        raise InvalidRequestError("A tool has no name.", field="tools", hint="Give every tool a name.")
