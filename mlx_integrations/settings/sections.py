"""What can be set, section by section: names, values that are allowed, defaults. `Settings` puts the sections together.

The text under each setting is its description: the reference of the documentation is made from it.
"""

import difflib
import json
import os
import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import NoDecode

from mlx_integrations.errors import ConfigurationError

__all__ = [
    "DEFAULT_PROFILES",
    "ChatSettings",
    "EmbeddingProfile",
    "EmbeddingSettings",
    "EndpointKind",
    "EndpointSettings",
    "HubSettings",
    "ModelSettings",
    "RegistrySettings",
    "RouterSettings",
    "RouterTasks",
    "RuntimeSettings",
    "split_names",
]

DEFAULT_PROFILES: Final = ("projects", "user_profile")
"""Embedding profiles that exist without being configured, with the default model."""


def split_names(value: Any) -> Any:
    """In the environment and on the command line, names are separated by commas, or are a JSON list."""
    if not isinstance(value, str):
        return value
    return json.loads(value) if value.startswith("[") else [part.strip() for part in value.split(",") if part.strip()]


_Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(split_names)]

EndpointKind = Literal["compatible", "openai", "openrouter", "gemini", "anthropic", "ollama", "lmstudio", "mlx-lm"]
"""What an endpoint is; `mlx_integrations.cloud.presets` knows where each usually is and what it understands."""


class RuntimeSettings(BaseModel):
    """How models run in this process."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    memory_budget_bytes: int | None = Field(default=None, gt=0)
    """What loaded models and their caches may take; `None` means what the machine allows."""
    idle_unload_seconds: float | None = Field(default=None, gt=0)
    """A model that nobody used for this long is unloaded; `None` means never."""
    max_batch_size: int = Field(default=32, ge=1)
    """Answers that one model generates at the same time at most."""
    prefill_step_tokens: int = Field(default=512, ge=1)
    """Prompt tokens read between two decoding steps; fewer means steadier streams, more means faster first tokens."""
    prefix_cache_bytes: int | None = Field(default=None, ge=0)
    """What each model keeps of earlier prompts, so that a conversation is not read again; `None` means a tenth of the
    memory budget, 0 keeps nothing."""
    max_queued_requests: int = Field(default=256, ge=0)
    """Requests that may wait; one more is refused with `QueueFullError`."""
    blas_preload: bool = True
    """On a Linux CPU, lend MLX the fast BLAS of the faiss-cpu wheel if that is installed."""
    cpu_float32: bool = True
    """On a CPU, turn weights into float32 when they are loaded: half precision and quantised weights are slow there."""
    embedding_batch_tokens: int | None = Field(default=None, ge=1)
    """Tokens of one batch of texts to embed, padding included; `None` means 2,048 on a CPU, whose caches hold no more,
    and 16,384 on a GPU."""
    default_max_tokens: int = Field(default=8192, ge=1)
    """Longest answer when a request does not say, within what is left of the model's window."""


class ModelSettings(BaseModel):
    """Which models are used when nobody says, and where they are looked for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    default: str = Field(default="demo", min_length=1)
    """The model that is used when none is named."""
    folders: Annotated[tuple[Path, ...], NoDecode] = ()
    """More folders to look for models in, besides the Hugging Face cache and LM Studio's; `~` is the home folder. In a
    variable they are separated as in PATH."""
    context_tokens: int = Field(default=8192, ge=1)
    """Tokens of conversation that memory is estimated for when nobody says."""

    @field_validator("folders", mode="before")
    @classmethod
    def _split_paths(cls, value: Any) -> Any:
        """In the environment, folders are separated as in PATH."""
        return [part for part in value.split(os.pathsep) if part] if isinstance(value, str) else value

    @field_validator("folders")
    @classmethod
    def _expand_home(cls, value: tuple[Path, ...]) -> tuple[Path, ...]:
        return tuple(path.expanduser() for path in value)


class HubSettings(BaseModel):
    """Where models are downloaded from, and where they are kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cache_dir: Path | None = None
    """The folder of downloaded models, shared with other programs that use the Hugging Face cache; `None` means that
    cache's usual place. HF_HUB_CACHE and HF_HOME are honoured."""
    endpoint: str | None = Field(default=None, pattern=r"^https?://")
    """A mirror of the Hugging Face Hub; `None` means the Hub itself. HF_ENDPOINT is honoured."""
    token: SecretStr | None = None
    """For private and gated models; `None` means the one that `hf auth login` saved. HF_TOKEN is honoured. Never read
    from a configuration file: those are shared."""

    @field_validator("cache_dir")
    @classmethod
    def _expand_home(cls, value: Path | None) -> Path | None:
        return value.expanduser() if value else None


class RegistrySettings(BaseModel):
    """The list of known models."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str | None = Field(default=None, pattern=r"^https?://")
    """Where newer facts about models are fetched from; `None` means that nothing is fetched."""
    refresh_hours: float = Field(default=24.0, gt=0)
    """How old these facts may be before a command looks for newer ones."""
    user_file: Path | None = None
    """A file with models of your own; `None` means `models.toml` or `models.json` beside your configuration file, if
    one is there."""
    notices: bool = True
    """Whether to say, once a day and on a terminal only, that a model is new or was replaced."""

    @field_validator("user_file")
    @classmethod
    def _expand_home(cls, value: Path | None) -> Path | None:
        return value.expanduser() if value else None


class ChatSettings(BaseModel):
    """How `mlxi chat` and `mlxi run` behave in a terminal."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    history_entries: int = Field(default=1000, ge=0)
    """Lines you typed that the arrow keys bring back in later sessions; 0 keeps nothing on disk."""


class EmbeddingProfile(BaseModel):
    """How one kind of text is embedded, wherever it is stored or asked for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str | None = Field(default=None, min_length=1)
    """The embedding model; `None` means `embedding.default`."""
    dimensions: int | None = Field(default=None, ge=1)
    """Coordinates to keep of each vector; `None` means all."""
    allow_fallback: bool = False
    """For routers: whether another backend, such as a cloud, may embed when this model cannot. Its vectors are other
    ones, and the texts may leave this machine. `MLXEmbeddings` itself never asks anyone else."""


class EmbeddingSettings(BaseModel):
    """Which embedding models are used, and what for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    default: str = Field(default="minilm-l6-v2", min_length=1)
    """The embedding model that is used when none is named."""
    dimensions: int | None = Field(default=None, ge=1)
    """Coordinates to keep of each vector of `default`, for models that were trained for it; `None` means all."""
    profiles: dict[str, EmbeddingProfile] = Field(default_factory=dict, validate_default=True)
    """By name; `projects` and `user_profile` always exist."""

    @field_validator("profiles")
    @classmethod
    def _add_the_usual_ones(cls, value: dict[str, EmbeddingProfile]) -> dict[str, EmbeddingProfile]:
        return {**{name: EmbeddingProfile() for name in DEFAULT_PROFILES}, **value}

    def profile(self, name: str) -> EmbeddingProfile:
        """A profile with its model filled in.

        Raises:
            ConfigurationError: There is no such profile; the hint names those that exist.
        """
        found = self.profiles.get(name)
        if found is None:
            near = difflib.get_close_matches(name, self.profiles, n=1)
            known = ", ".join(f"`{known}`" for known in self.profiles)
            hint = f"Did you mean `{near[0]}`?" if near else f"There are {known}."
            raise ConfigurationError(
                f"There is no embedding profile `{name}`.",
                hint=f"{hint} A new one is a section `[embedding.profiles.{name}]` in `mlxi.toml`.",
            )
        if found.model:
            return found
        return found.model_copy(update={"model": self.default, "dimensions": found.dimensions or self.dimensions})


class EndpointSettings(BaseModel):
    """Another server that speaks the protocol of OpenAI, in a cloud or on this machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: EndpointKind = "compatible"
    """What it is. All but `compatible` know their usual address, the variable of their key and their options."""
    base_url: str | None = Field(default=None, pattern=r"^https?://[^@?#]+$")
    """Its address, usually with `/v1` at its end; `None` means the usual one of its kind."""
    model: str | None = Field(default=None, min_length=1)
    """The chat model that is used when none is named."""
    embedding_model: str | None = Field(default=None, min_length=1)
    """The embedding model that is used when none is named."""
    embedding_dimensions: int | None = Field(default=None, ge=1)
    """Coordinates of the embedding model's vectors; `None` means that the endpoint is asked to embed a word."""
    api_key_env: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """The environment variable that holds its key; `None` means the usual one of its kind. The key itself is never read
    from a configuration file: those are shared."""
    timeout_seconds: float = Field(default=600.0, gt=0)
    """The longest silence that is waited out, before the first word and between two."""
    connect_seconds: float = Field(default=10.0, gt=0)
    """How long it may take to reach it."""
    context_tokens: int = Field(default=128_000, ge=1)
    """What its model's window is taken to hold, prompt and answer together."""
    vision: bool = False
    """Whether its model reads images."""
    options: _Names = ()
    """Options that it understands besides those of its kind, such as `top_k`; others are refused by name."""
    forwards: bool = False
    """For routers: whether it passes on what it is asked, as a proxy does. Then it does not count as this machine,
    whatever its address."""
    group: str | None = Field(default=None, min_length=1)
    """For routers: endpoints of one group are equals, and the least busy one is asked first."""
    max_concurrent: int | None = Field(default=None, ge=1)
    """For routers: calls that it takes at the same time; `None` means any number."""
    input_price: float | None = Field(default=None, ge=0)
    """For routers: US dollars for a million prompt tokens."""
    output_price: float | None = Field(default=None, ge=0)
    """For routers: US dollars for a million tokens of answers."""


class RouterTasks(BaseModel):
    """For each task, the models and endpoints that go first, best one first, whichever side the mode prefers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    chat: _Names = ()
    """Conversations."""
    classify: _Names = ()
    """Choosing among a few answers."""
    code: _Names = ()
    """Writing and explaining programs."""
    extract: _Names = ()
    """Finding facts in a text, often as JSON."""
    reasoning: _Names = ()
    """Problems that take several steps."""
    rewrite: _Names = ()
    """Making another text of one."""
    summarize: _Names = ()
    """Making a short text of a long one."""
    translate: _Names = ()
    """From one language into another."""


class RouterSettings(BaseModel):
    """Who answers when several could: models on this machine, and endpoints."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    allow_cloud: bool = False
    """Whether anything may leave this machine. The mode alone never allows it."""
    mode: Literal["local_only", "prefer_local", "prefer_cloud", "cloud_only"] = "prefer_local"
    """Which side goes first, and whether the other may be asked at all."""
    order: _Names = ()
    """Models and endpoints in the order in which they are asked, within the side that the mode prefers. In a variable,
    names of all such lists are separated by commas."""
    guarantee: Literal["live", "complete"] = "live"
    """`live` shows an answer as it comes; `complete` shows it when all of it is there, so that any failure before can
    still be repaired."""
    hold_tokens: int = Field(default=0, ge=0)
    """Pieces of an answer that are held back before the first one is shown."""
    continue_text: bool = False
    """Whether another model may write on where a plain text broke off."""
    asks_another_if_forbidden: bool = False
    """Whether another model is asked what the rules of one forbid."""
    first_token_seconds: float | None = Field(default=None, gt=0)
    """How long each candidate may take to begin; `None` means as long as it likes."""
    between_tokens_seconds: float | None = Field(default=None, gt=0)
    """How long it may fall silent in the middle; `None` means as long as it likes."""
    total_seconds: float | None = Field(default=None, gt=0)
    """How long a whole call may take, all candidates together; `None` means as long as it likes."""
    budget_usd: float | None = Field(default=None, ge=0)
    """What a process may spend; `None` means no limit. With a limit, an endpoint without prices is not asked."""
    detectors: Annotated[
        tuple[Literal["card", "email", "iban", "ip", "phone", "secret"], ...], NoDecode, BeforeValidator(split_names)
    ] = ("card", "iban", "secret")
    """What is looked for in messages, results of tools included. Where it is found, the request stays on this
    machine."""
    private_tags: _Names = ("private",)
    """Tags that say that a call must stay on this machine."""
    private_words: _Names = ()
    """Words of your own that do the same, whatever their case: names of people, customers, projects."""
    private_patterns: _Names = ()
    """Regular expressions that do the same."""
    local_hosts: _Names = ()
    """Hosts besides this machine that may see what is private: names, addresses, or networks such as `192.168.1.0/24`.
    What resolves to this machine's own loopback needs no listing."""
    tasks: RouterTasks = RouterTasks()

    @field_validator("mode")
    @classmethod
    def _may_leave(cls, value: str, info: ValidationInfo) -> str:
        if value in ("prefer_cloud", "cloud_only") and info.data.get("allow_cloud") is False:
            raise ValueError("it contradicts `router.allow_cloud`, which is false")
        return value

    @field_validator("private_patterns")
    @classmethod
    def _can_be_compiled(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in value:
            try:
                re.compile(pattern)
            except re.error as exc:
                raise ValueError(f"it is a list of regular expressions ({exc})") from exc
        return value
