"""The transformer of an embedding model: its folder, where texts are cut, what its settings ask for. No MLX."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlx_integrations.errors import ModelLoadError
from mlx_integrations.runtime.embedding.json_fields import JsonFields
from mlx_integrations.runtime.folder import ModelFolder, read_folder

__all__ = ["TransformerFiles", "read_transformer"]

_SETTINGS_FILES = tuple(
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
# Settings that change nothing here, and those that are looked at below.
_KNOWN_SETTINGS = frozenset(
    """max_seq_length do_lower_case transformer_task modality_config module_output_name processing_kwargs unpad_inputs
    query_length document_length query_expansion tokenizer_name_or_path model_args tokenizer_args config_args
    model_kwargs processor_kwargs config_kwargs backend""".split()
)
# Where a file comes from, how it is loaded and in which precision: not what is computed.
_LOADING_OPTIONS = frozenset(
    """trust_remote_code revision code_revision token use_auth_token cache_dir local_files_only subfolder force_download
    attn_implementation torch_dtype dtype device_map low_cpu_mem_usage use_safetensors add_pooling_layer use_cache
    unpad_inputs use_memory_efficient_attention use_fast padding_side padding""".split()
)
_NO_LIMIT_TOKENS = 10**20  # transformers' LARGE_INTEGER: "not stated"
_WITHOUT_LIMIT_TOKENS = 1_000_000
# `max_position_embeddings` of transformers' configuration classes, for a config.json that leaves it out.
_DEFAULT_POSITIONS = {
    "bert": 512,
    "camembert": 512,
    "distilbert": 512,
    "gemma": 8192,
    "gemma3_text": 131_072,
    "lfm2": 128_000,
    "llama": 2048,
    "llama_bidirec": 2048,
    "mistral": 131_072,
    "modernbert": 8192,
    "mpnet": 512,
    "nomic_bert": 2048,
    "qwen2": 32_768,
    "qwen3": 32_768,
    "roberta": 512,
    "xlm-roberta": 512,
}
_POSITIONS_FROM_0 = ("bert", "distilbert")
_POSITIONS_AFTER_PADDING = ("camembert", "mpnet", "roberta", "xlm-roberta")
_HIDDEN_SIZE_KEYS = ("hidden_size", "dim", "n_embd", "d_model")
_OTHER_MODEL = "Choose another model, or run this one with sentence-transformers."
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformerFiles:
    """A transformer's folder and settings.

    Attributes:
        folder: Its folder, with the configuration that its settings ask for.
        max_tokens: Texts are cut after so many.
        do_lower_case: Texts are lower-cased before the tokenizer sees them.
        hidden_size: Coordinates of a token vector, where config.json says so.
        has_chat_template: Its tokenizer writes chats.
    """

    folder: ModelFolder
    max_tokens: int
    do_lower_case: bool
    hidden_size: int | None
    has_chat_template: bool


def read_transformer(path: Path, root: Path, *, is_plain: bool = False) -> TransformerFiles:
    """Read a transformer's folder.

    Args:
        path: Its folder.
        root: The model's folder.
        is_plain: There is no modules.json; then sentence-transformers does not look at its other files either.

    Raises:
        ModelLoadError: A file is missing or damaged, or asks for something that is not supported.
    """
    if (path / "adapter_config.json").is_file():
        raise ModelLoadError(
            f"`{path}` holds an adapter (adapter_config.json), not a whole model.",
            model_path=str(root),
            hint="Merge it into its base model first: `merge_and_unload()` of peft, then `save_pretrained`.",
        )
    settings = JsonFields(path / _SETTINGS_FILES[0], root, {}) if is_plain else _settings(path, root)
    _check_settings(settings)
    folder = read_folder(path)
    overrides = {key: value for key, value in _options(settings, "config").items() if key not in _LOADING_OPTIONS}
    if overrides:
        folder = replace(folder, config={**folder.config, **overrides})
    tokenizer = JsonFields(path / "tokenizer_config.json", root)
    return TransformerFiles(
        folder=folder,
        max_tokens=_max_tokens(folder, settings, tokenizer),
        do_lower_case=settings.flag("do_lower_case", False),
        hidden_size=_hidden_size(folder.config),
        has_chat_template="chat_template" in tokenizer.values
        or any((path / name).is_file() for name in ("chat_template.jinja", "chat_template.json")),
    )


def _settings(path: Path, root: Path) -> JsonFields:
    for name in _SETTINGS_FILES:
        fields = JsonFields(path / name, root)
        if fields.values:
            return fields
    return fields


def _options(settings: JsonFields, what: str) -> Mapping[str, Any]:
    """The keyword arguments for loading the `model`, the `config` or the `processor`, under their new or old name."""
    old = {"model": "model_args", "config": "config_args", "processor": "tokenizer_args"}[what]
    return {**settings.mapping(f"{what}_kwargs"), **settings.mapping(old)}


def _check_settings(settings: JsonFields) -> None:
    """Refuse what would change the vectors and is not supported."""
    values = settings.values
    unknown = [key for key in values if key not in _KNOWN_SETTINGS]
    if unknown:
        raise settings.error(f"has a setting that is not known: `{unknown[0]}`.", hint=_OTHER_MODEL)
    task = settings.text("transformer_task") or "feature-extraction"
    output = settings.text("module_output_name") or "token_embeddings"
    if task != "feature-extraction" or output != "token_embeddings":
        raise settings.error(f"asks for `{task}` giving `{output}`, which is not supported.", hint=_OTHER_MODEL)
    for key in ("query_length", "document_length", "query_expansion", "tokenizer_name_or_path"):
        if values.get(key) is not None:
            raise settings.error(f"has `{key}` = `{values[key]}`, which is not supported.", hint=_OTHER_MODEL)
    _check_modalities(settings)
    for what, supported in (("model", ()), ("processor", ("model_max_length",))):
        for key, value in _options(settings, what).items():
            if key not in _LOADING_OPTIONS and key not in supported:
                raise settings.error(
                    f"passes `{key}` = `{value}` to the {what}, which is not supported.", hint=_OTHER_MODEL
                )
    for kind, options in settings.mapping("processing_kwargs").items():
        for key, value in (options or {}).items():
            if kind != "text" or key != "max_length":
                raise settings.error(
                    f"has `processing_kwargs` with `{kind}.{key}` = `{value}`, which is not supported.",
                    hint=_OTHER_MODEL,
                )


def _check_modalities(settings: JsonFields) -> None:
    modalities = settings.mapping("modality_config")
    if not modalities:
        return
    if "message" in modalities:
        raise settings.error(
            "puts texts into the tokenizer's chat template (`modality_config` has `message`), which is not supported.",
            hint=_OTHER_MODEL,
        )
    text = modalities.get("text")
    if text not in (
        {"method": "forward", "method_output_name": "last_hidden_state"},
        {"method": "forward", "method_output_name": ["last_hidden_state"]},
    ):
        raise settings.error(f"has `modality_config` with `text` = `{text}`; not supported.", hint=_OTHER_MODEL)


def _max_tokens(folder: ModelFolder, settings: JsonFields, tokenizer: JsonFields) -> int:
    """Where texts are cut.

    The settings decide; else it is the smaller of the tokenizer's `model_max_length` and the configuration's
    `max_position_embeddings` (sentence_transformers/base/modules/transformer.py). A limit beyond the table of
    positions, where torch would fail on long texts, is lowered to it.
    """
    processor = JsonFields(settings.file, folder.path, dict(_options(settings, "processor")))
    limit = processor.size("model_max_length") or settings.size("max_seq_length")
    if limit is None:
        positions = _positions(folder)
        own = tokenizer.size("model_max_length") or tokenizer.size("max_len") or _NO_LIMIT_TOKENS
        limit = min(own, positions or own)
    text = JsonFields(settings.file, folder.path, dict(settings.mapping("processing_kwargs").get("text") or {}))
    limit = text.size("max_length") or limit
    rows = _position_rows(folder)
    if rows is not None and limit > rows:
        _logger.debug("`%s` cuts texts after %d tokens, but has %d positions", folder.path, limit, rows)
        limit = rows
    return limit if limit < _NO_LIMIT_TOKENS else _WITHOUT_LIMIT_TOKENS


def _positions(folder: ModelFolder) -> int | None:
    """`max_position_embeddings`, or what transformers takes for it."""
    value = folder.config.get("max_position_embeddings", _DEFAULT_POSITIONS.get(folder.model_type))
    return value if isinstance(value, int) and value > 0 else None


def _position_rows(folder: ModelFolder) -> int | None:
    """Tokens for which the model has a learned position; `None` if it needs none."""
    positions = _positions(folder)
    if positions is None or folder.model_type in _POSITIONS_FROM_0:
        return positions
    if folder.model_type not in _POSITIONS_AFTER_PADDING:
        return None
    padding = folder.config.get("pad_token_id", 1)
    return positions - 1 - (padding if isinstance(padding, int) else 1)


def _hidden_size(config: Mapping[str, Any]) -> int | None:
    sizes = (config.get(key) for key in _HIDDEN_SIZE_KEYS)
    return next((size for size in sizes if isinstance(size, int) and size > 0), None)
