"""The text side of a chat model: tokenizer, template, syntax, grammar. No weights; used in the callers' threads.

Everything here is safe to share: the Rust tokenizer is used directly, because transformers' own `encode` changes its
settings on the way and fails when two threads meet there.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from mlx_integrations.errors import ModelLoadError
from mlx_integrations.runtime.chat.control_tokens import ControlTokens, split_at_marks, unescape_marks
from mlx_integrations.runtime.chat.detokenize import Detokenizer
from mlx_integrations.runtime.chat.grammar import GrammarCompiler
from mlx_integrations.runtime.chat.json_schema import check_depth
from mlx_integrations.runtime.chat.prompts import ChatTemplate, RenderedPrompt, prompt_token_ids
from mlx_integrations.runtime.chat.syntax import OutputSyntax, UpstreamToolParser, detect_syntax
from mlx_integrations.runtime.folder import ModelFolder
from mlx_integrations.types import ChatRequest, JsonSchemaFormat, ModelCapabilities

__all__ = ["ModelText", "load_model_text"]


def load_model_text(folder: ModelFolder) -> "ModelText":
    """Load a model's tokenizer and find out how it writes. MLX must have been imported on the worker thread before.

    Raises:
        ModelLoadError: The tokenizer is missing or damaged.
    """
    from mlx_integrations.runtime._mlx import load_tokenizer

    try:
        wrapper = load_tokenizer(folder.path)
        tokenizer = wrapper._tokenizer
        backend = tokenizer.backend_tokenizer
    except Exception as error:  # transformers raises anything from KeyError to a Rust panic on damaged files
        raise ModelLoadError(
            f"The tokenizer of `{folder.path}` cannot be loaded: {error}.",
            model_path=str(folder.path),
            hint="The folder needs tokenizer.json and tokenizer_config.json; download them again.",
        ) from error
    return ModelText(folder, tokenizer, backend, wrapper)


class ModelText:
    """What turns requests into token ids and token ids into text, for one model.

    Args:
        folder: The model's folder.
        tokenizer: transformers' tokenizer; renders the chat template.
        backend: The Rust tokenizer below it.
        wrapper: mlx-lm's view: end tokens, inferred tool parser, template written as code.
    """

    def __init__(self, folder: ModelFolder, tokenizer: Any, backend: Any, wrapper: Any) -> None:
        self.folder = folder
        self.backend = backend
        self.bos_token_id = tokenizer.bos_token_id
        vocabulary = backend.get_vocab(with_added_tokens=True)
        apply: Callable[..., str] | None = getattr(wrapper, "_chat_template", None)
        self.template = ChatTemplate(tokenizer, apply=apply)
        self.syntax: OutputSyntax = detect_syntax(
            chat_template=self.template.source,
            vocabulary=vocabulary,
            model_type=folder.model_type,
            upstream=_upstream_parser(wrapper),
        )
        stops = [vocabulary[marker] for marker in self.syntax.stop_markers if marker in vocabulary]
        own = [*folder.end_ids(), *wrapper.eos_token_ids, *stops]
        self.end_ids = tuple(dict.fromkeys(token_id for token_id in own if token_id is not None))
        known = backend.get_vocab_size(with_added_tokens=True)
        # Either may be the larger: logits are padded, and tokens are added without resizing the embedding.
        self.logits_size = _declared_vocabulary(folder) or known
        self.vocabulary_size = max(self.logits_size, known)
        added = backend.get_added_tokens_decoder()
        self._control_tokens = ControlTokens(token.content for token in added.values() if token.special)
        self._hidden_ids = frozenset(
            token_id for token_id, token in added.items() if token.special and token.content not in self.syntax.markers
        )
        self._compiler: GrammarCompiler | None = None
        self._lock = threading.Lock()

    @cached_property
    def capabilities(self) -> ModelCapabilities:
        """What the model can do."""
        limit = self.folder.generation_config.get("max_new_tokens")
        return ModelCapabilities(
            context_window=self.folder.context_window,
            max_output_tokens=limit if isinstance(limit, int) else None,
            tools=self.template.has_tools,
            reasoning=self._thinks(),
        )

    def _thinks(self) -> bool:
        """Whether the model was made to think: vocabularies are shared by families, so tokens alone prove nothing."""
        source, syntax = self.template.source or "", self.syntax
        tags = [tag for tag in (syntax.reasoning_start, syntax.reasoning_end) if tag]
        return bool(tags) and (self.template.supports_thinking_switch or any(tag in source for tag in tags))

    @property
    def compiler(self) -> GrammarCompiler:
        """The grammar compiler, built at first use (a second for a vocabulary of 128k)."""
        with self._lock:
            if self._compiler is None:
                self._compiler = GrammarCompiler(
                    self.backend.to_str(), vocabulary_size=self.vocabulary_size, end_ids=self.end_ids
                )
            return self._compiler

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Token ids of a text."""
        first, *rest = split_at_marks(text)
        ids: list[int] = list(self.backend.encode(first, add_special_tokens=add_special_tokens).ids)
        for piece in rest:
            ids += self.backend.encode(piece, add_special_tokens=False).ids
        return ids

    def prompt(self, request: ChatRequest) -> tuple[RenderedPrompt, list[int]]:
        """The prompt of a request and its token ids; only the template writes control tokens.

        Raises:
            RequestError: The messages, tools or schema cannot be written as a prompt.
        """
        for tool in request.tools:
            check_depth(tool.parameters, f"The parameters of the tool `{tool.name}`")
        if isinstance(request.output, JsonSchemaFormat):
            check_depth(request.output.schema, "The JSON Schema")
        rendered = self.template.render(self._control_tokens.disarm(request))
        rendered = replace(rendered, text=unescape_marks(rendered.text))
        return rendered, prompt_token_ids(self, rendered)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, special tokens written out."""
        text: str = self.backend.decode(list(ids), skip_special_tokens=False)
        return text

    def detokenizer(self) -> Detokenizer:
        """A detokenizer for one answer."""
        return Detokenizer(self.backend, self._hidden_ids)


def _upstream_parser(wrapper: Any) -> UpstreamToolParser | None:
    if not wrapper.has_tool_calling:
        return None
    return UpstreamToolParser(
        name=str(wrapper.init_kwargs.get("tool_parser_type", "")),
        start=wrapper.tool_call_start,
        end=wrapper.tool_call_end or "",
        parse=wrapper.tool_parser,
    )


def _declared_vocabulary(folder: ModelFolder) -> int:
    for part in (folder.config.get("text_config"), folder.config):
        if isinstance(part, dict) and isinstance(size := part.get("vocab_size"), int):
            return size
    return 0
