"""Frozen records that cross rooms; no behaviour beyond checking and joining.

A chat call is one `ChatRequest` in and a stream of `ChatChunk`s out: any number of chunks with deltas, then exactly
one last chunk whose `finish` is set. `ChatResult.join` folds such a stream into one answer. An embedding call is texts
and `EmbeddingOptions` in and a stream of `EmbeddingChunk`s out, in the order of the texts.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:  # a type only: importing this module stays fast
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "Attachment",
    "Backend",
    "ChatChunk",
    "ChatMessage",
    "ChatRequest",
    "ChatResult",
    "Chip",
    "EmbeddingCapabilities",
    "EmbeddingChunk",
    "EmbeddingOptions",
    "EmbeddingResult",
    "EmbeddingSide",
    "Finish",
    "FinishReason",
    "InvalidToolCall",
    "JsonObjectFormat",
    "JsonSchemaFormat",
    "Machine",
    "ModelCapabilities",
    "OutputFormat",
    "RegexFormat",
    "Role",
    "SamplingParams",
    "Support",
    "TokenLogprob",
    "ToolCall",
    "ToolChoice",
    "ToolSpec",
    "Usage",
]

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "length", "tool_calls"]
EmbeddingSide = Literal["query", "document"]
Backend = Literal["metal", "cuda", "cpu"]
"""Where MLX computes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """A part of a message that is not text. Exactly one of `url` and `data` is set."""

    kind: Literal["image", "audio", "video", "file"]
    mime_type: str | None = None
    url: str | None = None
    data: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call that parsed strictly: `arguments` is a JSON object."""

    id: str
    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class InvalidToolCall:
    """A call that could not be accepted, kept as it came: `arguments` is the raw text, `error` says why."""

    id: str
    name: str | None
    arguments: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatMessage:
    """One message. `tool_calls` belong to the assistant, `tool_call_id` to a tool's answer."""

    role: Role
    content: str = ""
    name: str | None = None
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    attachments: tuple[Attachment, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSpec:
    """A tool offered to the model. `parameters` is a JSON Schema of type object."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=lambda: {"type": "object", "properties": {}})


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolChoice:
    """Whether the model may, must or must not call: `tool` means the one called `name`."""

    mode: Literal["auto", "none", "any", "tool"] = "auto"
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonSchemaFormat:
    """The whole answer is JSON that satisfies `schema`."""

    schema: Mapping[str, Any]
    name: str = "response"


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonObjectFormat:
    """The whole answer is some JSON object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegexFormat:
    """The whole answer matches `pattern` (Rust regex syntax, no look-around), anchored at both ends."""

    pattern: str


OutputFormat = JsonSchemaFormat | JsonObjectFormat | RegexFormat


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How tokens are chosen and when to stop. `None` means: what the model's own generation_config.json says, else off.

    Attributes:
        temperature: 0 (greedy) or above.
        top_p: In (0, 1]; 1 switches it off.
        top_k: 0 (off) to the size of the vocabulary.
        min_p: In [0, 1]; 0 switches it off.
        xtc_probability: In [0, 1]; 0 switches it off.
        xtc_threshold: In [0, 0.5].
        repetition_penalty: Above 0; 1 switches it off.
        presence_penalty: 0 switches it off.
        frequency_penalty: 0 switches it off.
        logit_bias: Token id to what is added to its logit.
        seed: Any integer; the same seed gives the same answer, alone or in a batch.
        max_tokens: Tokens generated at most, above 0; `None` means what is left of the window, within the
            runtime's default limit.
        stop: Strings that end the answer; they are not part of it.
        logprobs: Whether chunks carry the log-probabilities of their tokens.
        top_logprobs: 0 to 20 alternatives for each token.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    xtc_probability: float | None = None
    xtc_threshold: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: Mapping[int, float] | None = None
    seed: int | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: bool = False
    top_logprobs: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """Everything one answer depends on.

    Attributes:
        messages: At least one.
        tools: Offered to the model; rendered by its own chat template.
        tool_choice: Enforced by the grammar, not asked for politely.
        parallel_tool_calls: Whether one answer may hold several calls.
        output: A format the whole answer must have; not together with a forced tool call.
        sampling: How tokens are chosen and when to stop.
        reasoning: Whether the model thinks first; `None` leaves it to its template.
        template_options: Extra variables for the chat template.
    """

    messages: tuple[ChatMessage, ...]
    tools: tuple[ToolSpec, ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    parallel_tool_calls: bool = True
    output: OutputFormat | None = None
    sampling: SamplingParams = SamplingParams()
    reasoning: bool | None = None
    template_options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Token counts. `cached_tokens` are part of `prompt_tokens`, `reasoning_tokens` of `completion_tokens`."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLogprob:
    """The log-probability (natural) of one generated token, and of its strongest rivals."""

    token: str
    token_id: int
    logprob: float
    top: tuple[tuple[str, int, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """Why and how an answer ended.

    Attributes:
        reason: `stop` (end of turn or a stop string), `length` (token limit), `tool_calls`.
        usage: Token counts.
        model_id: The model that answered.
        prompt_seconds: From the request's arrival to its first token, queueing included.
        generation_seconds: From the first token to the last.
        stop_string: The stop string that ended it, if one did.
    """

    reason: FinishReason
    usage: Usage
    model_id: str = ""
    prompt_seconds: float = 0.0
    generation_seconds: float = 0.0
    stop_string: str | None = None

    @property
    def tokens_per_second(self) -> float:
        """Decoding speed; 0 when fewer than two tokens were generated."""
        tokens = self.usage.completion_tokens - 1
        return tokens / self.generation_seconds if tokens > 0 and self.generation_seconds > 0 else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatChunk:
    """A piece of an answer. Tool calls come whole, never in parts: what is released has been parsed strictly."""

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    invalid_tool_calls: tuple[InvalidToolCall, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    finish: Finish | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatResult:
    """A whole answer: the stream, joined."""

    text: str
    reasoning: str
    tool_calls: tuple[ToolCall, ...]
    invalid_tool_calls: tuple[InvalidToolCall, ...]
    logprobs: tuple[TokenLogprob, ...]
    finish: Finish

    @classmethod
    def join(cls, chunks: Iterable[ChatChunk]) -> "ChatResult":
        """Fold a complete stream into one answer.

        Raises:
            ValueError: The stream ended without its last chunk.
        """
        parts: Sequence[ChatChunk] = list(chunks)
        finish = parts[-1].finish if parts else None
        if finish is None:
            raise ValueError("the stream ended without a chunk that carries `finish`")
        return cls(
            text="".join(part.text for part in parts),
            reasoning="".join(part.reasoning for part in parts),
            tool_calls=tuple(call for part in parts for call in part.tool_calls),
            invalid_tool_calls=tuple(call for part in parts for call in part.invalid_tool_calls),
            logprobs=tuple(item for part in parts for item in part.logprobs),
            finish=finish,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCapabilities:
    """What a model can do, as data.

    Attributes:
        context_window: Tokens of prompt and answer together.
        max_output_tokens: Tokens of one answer at most, where the model states it.
        tools: Its template renders tools.
        reasoning: It has a thinking channel.
        structured_output: Answers can be held to a schema.
        vision: It reads images.
    """

    context_window: int
    max_output_tokens: int | None = None
    tools: bool = False
    reasoning: bool = False
    structured_output: bool = True
    vision: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingOptions:
    """How texts become vectors. `None` means: as the model's own files say.

    Attributes:
        side: Whether the texts ask or are to be found; models that know prompts have one for each.
        prompt: Put before every text, as it stands, instead of the model's own prompt; `""` for none.
        dimensions: Keep the first so many coordinates (Matryoshka), normalised again if `normalize` holds.
        normalize: Whether vectors have length 1.
        batch_tokens: Tokens of one batch at most, padding included; a longer text is a batch of its own.
        on_progress: Called with the number of texts that have just been embedded, in the thread or task that reads the
            stream.
    """

    side: EmbeddingSide = "document"
    prompt: str | None = None
    dimensions: int | None = None
    normalize: bool | None = None
    batch_tokens: int | None = None
    on_progress: Callable[[int], None] | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EmbeddingChunk:
    """Vectors of consecutive texts.

    Attributes:
        first: Position of the first of these texts among all, from 0.
        vectors: (texts, dimensions), float32.
        tokens: What the model read for them: prompts and special tokens included, padding not.
        truncated: Positions, among all texts, of those that were longer than the model reads.
    """

    first: int
    vectors: "NDArray[np.float32]"
    tokens: int
    truncated: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EmbeddingResult:
    """All vectors of one call: the stream, joined. Attributes as in `EmbeddingChunk`."""

    vectors: "NDArray[np.float32]"
    tokens: int
    truncated: tuple[int, ...] = ()

    @classmethod
    def join(cls, chunks: Iterable[EmbeddingChunk]) -> "EmbeddingResult":
        """Fold a stream into one result; one without texts has vectors of shape (0, 0)."""
        import numpy as np

        parts = list(chunks)
        return cls(
            vectors=np.concatenate([part.vectors for part in parts]) if parts else np.zeros((0, 0), np.float32),
            tokens=sum(part.tokens for part in parts),
            truncated=tuple(position for part in parts for position in part.truncated),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingCapabilities:
    """What an embedding model does, as data.

    Attributes:
        dimensions: Coordinates of a whole vector.
        max_tokens: A text is cut after so many, prompt and special tokens included.
        pooling: How token vectors become one, such as `mean`, `cls` or `lasttoken`.
        normalize: Whether its vectors have length 1.
        query_prompt: Put before a query.
        document_prompt: Put before a document.
        similarity: The measure it was trained for: `cosine`, `dot`, `euclidean` or `manhattan`.
    """

    dimensions: int
    max_tokens: int
    pooling: str
    normalize: bool
    query_prompt: str = ""
    document_prompt: str = ""
    similarity: str = "cosine"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """An Apple chip, as its name says.

    Attributes:
        family: `M1`, `M2` and so on.
        variant: Empty for the base chip, else `Pro`, `Max` or `Ultra`.
        performance_cores: Fast cores, where the system says.
        efficiency_cores: Frugal cores, where the system says.
    """

    family: str
    variant: Literal["", "Pro", "Max", "Ultra"] = ""
    performance_cores: int | None = None
    efficiency_cores: int | None = None

    @property
    def name(self) -> str:
        """Such as `M3 Max`."""
        return f"{self.family} {self.variant}".strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The machine as MLX sees it.

    Attributes:
        backend: Where arrays are computed.
        device_name: The device's own name.
        memory_bytes: Memory of the device, or of the machine where they share it, within a container's limit.
        usable_bytes: What models may take of it when no budget is set; `None` if only MLX could tell, and was not
            asked.
        usable_source: Where that figure comes from, in a few words.
        available_bytes: Memory that is free right now; `None` if it was not looked at.
        container_limit_bytes: What the container may take, if this is one with a limit.
        cores: Logical processors.
        chip: The Apple chip, if it is one.
        system: Operating system and version, such as `macOS 15.1`.
        is_translated: Whether this Python is built for Intel and runs under Rosetta, where MLX cannot.
    """

    backend: Backend
    device_name: str
    memory_bytes: int
    usable_bytes: int | None
    usable_source: str = ""
    available_bytes: int | None = None
    container_limit_bytes: int | None = None
    cores: int
    chip: Chip | None = None
    system: str = ""
    is_translated: bool = False

    @property
    def budget_bytes(self) -> int:
        """What models may take: the usable memory, or all there is while that is not known."""
        return self.memory_bytes if self.usable_bytes is None else self.usable_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Support:
    """Whether a model can be run here, judged by its configuration and the names of its files.

    Attributes:
        kind: What it would be run as; `None` if that cannot be told.
        is_supported: Whether there is code for it.
        reason: Why not, in one sentence; empty if it is supported.
    """

    kind: Literal["chat", "embedding"] | None
    is_supported: bool
    reason: str = ""
