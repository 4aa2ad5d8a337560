"""The record of a model in the catalogue: what is known about it before a byte of it is downloaded.

Everything that is not known for certain is `None` or empty; `sources` says where each group of facts comes from.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["EntryOrigin", "ModelEntry", "ModelKind", "Quantization", "Use"]

ModelKind = Literal["chat", "embedding"]
Use = Literal["chat", "code", "reasoning", "embedding"]
EntryOrigin = Literal["embedded", "remote", "user"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantization:
    """How weights are stored.

    Attributes:
        bits: Of one weight.
        group_size: Weights that share a scale; `None` if they are not quantised.
        mode: `affine` or one of MLX's floating-point modes; `None` if they are not quantised.
    """

    bits: int
    group_size: int | None = None
    mode: str | None = None

    @property
    def label(self) -> str:
        """Such as `4-bit`, `mxfp4` or `16-bit`."""
        return self.mode if self.mode not in (None, "affine") else f"{self.bits}-bit"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry:
    """One model of the catalogue.

    Attributes:
        id: The short name, lower case, such as `llama-3.2-3b`.
        name: The name to show.
        kind: Whether it answers or embeds.
        repo_id: Its repository on the Hugging Face Hub; `None` if it has none.
        revision: The commit that the facts belong to.
        aliases: Other names it is found by.
        family: Models that go together, such as `llama`.
        publisher: Who made it.
        license: SPDX identifier, or the licence's own name.
        parameters: How many weights it has.
        active_parameters: How many of them take part in one token, for mixtures of experts.
        quantization: How its weights are stored.
        size_bytes: Of the whole download.
        weight_bytes: What its tensors take in memory, as stored.
        is_weight_derived: Whether that was computed from the architecture and the quantisation, not read from files.
        float32_bytes: What its tensors take as float32, which is what they become on a CPU.
        context_window: Tokens of prompt and answer together.
        max_output_tokens: Tokens of one answer at most, where the publisher says.
        minimum_memory_bytes: Memory below which its publisher does not advise it.
        recommended_memory_bytes: Memory from which its publisher advises it.
        architecture: The keys of config.json that memory depends on; empty if unknown.
        tools: Whether it calls tools; `None` if unknown.
        vision: Whether it reads images; `None` if unknown.
        reasoning: Whether it thinks before it answers; `None` if unknown.
        structured_output: Whether answers can be held to a schema; `None` if unknown.
        languages: ISO 639-1 codes, where the publisher says.
        best_for: What it is good at, the best first.
        is_recommended: Whether it is among the ones to try first.
        released: Month of its release, as `2024-09`.
        dimensions: Coordinates of its vectors.
        smaller_dimensions: Other sizes its vectors can be cut to.
        pooling: How token vectors become one.
        max_tokens: A text is cut after so many.
        query_prompt: Put before a query.
        document_prompt: Put before a document.
        replaces: Ids of older models that it does better than.
        deprecated: Why it should not be started with any more; empty if it may.
        sha256: Digests of files, by name.
        install_command: Installs it, for a model that comes as a package.
        sources: Where each group of facts comes from.
        origin: Which list the entry is from.
    """

    id: str
    name: str
    kind: ModelKind
    repo_id: str | None = None
    revision: str | None = None
    aliases: tuple[str, ...] = ()
    family: str | None = None
    publisher: str | None = None
    license: str | None = None
    parameters: int | None = None
    active_parameters: int | None = None
    quantization: Quantization | None = None
    size_bytes: int | None = None
    weight_bytes: int | None = None
    is_weight_derived: bool = False
    float32_bytes: int | None = None
    context_window: int | None = None
    max_output_tokens: int | None = None
    minimum_memory_bytes: int | None = None
    recommended_memory_bytes: int | None = None
    architecture: Mapping[str, Any] = field(default_factory=dict)
    tools: bool | None = None
    vision: bool | None = None
    reasoning: bool | None = None
    structured_output: bool | None = None
    languages: tuple[str, ...] = ()
    best_for: tuple[Use, ...] = ()
    is_recommended: bool = False
    released: str | None = None
    dimensions: int | None = None
    smaller_dimensions: tuple[int, ...] = ()
    pooling: str | None = None
    max_tokens: int | None = None
    query_prompt: str | None = None
    document_prompt: str | None = None
    replaces: tuple[str, ...] = ()
    deprecated: str = ""
    sha256: Mapping[str, str] = field(default_factory=dict)
    install_command: str | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    origin: EntryOrigin = "embedded"

    @property
    def names(self) -> tuple[str, ...]:
        """Everything it is found by, its id first."""
        repository = (self.repo_id, self.repo_id.rpartition("/")[2]) if self.repo_id else ()
        return tuple(dict.fromkeys((self.id, *repository, *self.aliases)))

    @property
    def download_bytes(self) -> int | None:
        """About what has to be downloaded: the whole repository, or the weights while only they are known."""
        return self.weight_bytes if self.size_bytes is None else self.size_bytes
