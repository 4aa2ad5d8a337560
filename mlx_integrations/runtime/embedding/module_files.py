"""The modules that follow the transformer, as their own folders describe them. No MLX.

Names and defaults are those of sentence-transformers 6.2
(https://github.com/huggingface/sentence-transformers/tree/v6.2.0/sentence_transformers), which also reads what all
earlier versions wrote.
"""

from dataclasses import dataclass
from pathlib import Path

from mlx_integrations.runtime.embedding.json_fields import JsonFields

__all__ = [
    "ACTIVATIONS",
    "POOLING_MODES",
    "DenseSpec",
    "LayerNormSpec",
    "ModuleSpec",
    "NormalizeSpec",
    "PoolingSpec",
    "read_module",
    "read_pooling",
]

POOLING_MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
"""The ways of making one vector of many, in the order in which older files concatenate them."""

ACTIVATIONS = ("Identity", "Tanh", "Sigmoid", "ReLU", "LeakyReLU", "ELU", "GELU", "SiLU", "Softplus", "Mish")
"""Classes of `torch.nn`, with torch's default arguments."""

_MODE_OF_FLAG = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_FLAG_PREFIX = "pooling_mode_"
_SENTENCE = "sentence_embedding"


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolingSpec:
    """How token vectors become one.

    Attributes:
        modes: Of `POOLING_MODES`; the vectors of several are concatenated in this order.
        hidden_size: Coordinates of a token vector.
        include_prompt: Whether the tokens of the prompt count.
    """

    modes: tuple[str, ...]
    hidden_size: int
    include_prompt: bool = True

    @property
    def dimensions(self) -> int:
        """Coordinates of the pooled vector."""
        return len(self.modes) * self.hidden_size


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseSpec:
    """A linear layer and an activation; `residual` adds the input, projected if the sizes differ."""

    weights: Path
    in_features: int
    out_features: int
    bias: bool
    activation: str
    residual: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerNormSpec:
    """Normalisation to mean 0 and variance 1, with weights."""

    weights: Path
    dimensions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NormalizeSpec:
    """Scaling to length 1."""


ModuleSpec = DenseSpec | LayerNormSpec | NormalizeSpec


def read_pooling(folder: Path, root: Path, hidden_size: int | None) -> PoolingSpec:
    """What the folder of a Pooling module says.

    Args:
        folder: The module's folder.
        root: The model's folder.
        hidden_size: Coordinates of the transformer's token vectors, where its configuration states them.

    Raises:
        ModelLoadError: It says nothing, contradicts itself or the transformer, or names a mode that is not known.
    """
    fields = _config(folder, root)
    return PoolingSpec(
        modes=_modes(fields),
        hidden_size=_token_dimensions(fields, hidden_size),
        include_prompt=fields.flag("include_prompt", True),
    )


def _modes(fields: JsonFields) -> tuple[str, ...]:
    named, flagged = _named_modes(fields), _flagged_modes(fields)
    if named is None and flagged is None:
        return ("mean",)
    if named is None:
        assert flagged is not None
        if not flagged:
            flags = ", ".join(f"`{key}`" for key in fields.values if key in _MODE_OF_FLAG)
            raise fields.error(
                f"switches every kind of pooling off: {flags}.", hint="Set the one that the model was trained with."
            )
        return flagged
    if flagged is not None and set(flagged) != set(named):
        on = ", ".join(f"`{flag}`" for flag, mode in _MODE_OF_FLAG.items() if mode in flagged) or "no flag"
        raise fields.error(
            f"contradicts itself: `pooling_mode` is `{fields.values['pooling_mode']}`, but {on} is true.",
            hint="Keep `pooling_mode` and remove the `pooling_mode_*` flags.",
        )
    return named


def _named_modes(fields: JsonFields) -> tuple[str, ...] | None:
    value = fields.values.get("pooling_mode")
    if value is None:
        return None
    modes = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else ()
    unknown = [mode for mode in modes if mode not in POOLING_MODES]
    if unknown or not modes:
        raise fields.error(
            f"has `pooling_mode` = `{value}`, which is not known.",
            hint="Pooling is one or several of " + ", ".join(f"`{mode}`" for mode in POOLING_MODES) + ".",
        )
    return modes


def _flagged_modes(fields: JsonFields) -> tuple[str, ...] | None:
    for key in fields.values:
        if key.startswith(_FLAG_PREFIX) and key not in _MODE_OF_FLAG and fields.flag(key, False):
            raise fields.error(f"asks for `{key}`, a kind of pooling that is not supported.", hint=_other_model())
    if not any(key in fields.values for key in _MODE_OF_FLAG):
        return None
    return tuple(mode for key, mode in _MODE_OF_FLAG.items() if fields.flag(key, False))


def _token_dimensions(fields: JsonFields, hidden_size: int | None) -> int:
    stated = {
        key: size
        for key in ("embedding_dimension", "word_embedding_dimension")
        if (size := fields.size(key)) is not None
    }
    for key, size in stated.items():
        if hidden_size is not None and size != hidden_size:
            raise fields.error(
                f"has `{key}` = {size}, but the transformer's token vectors have {hidden_size} coordinates.",
                hint="The folders belong to different models; download the model again.",
            )
    sizes = set(stated.values())
    if hidden_size is not None:
        sizes.add(hidden_size)
    if len(sizes) != 1:
        raise fields.error("does not say (once) how many coordinates token vectors have: `embedding_dimension`.")
    return sizes.pop()


def read_module(name: str, folder: Path, root: Path, dimensions: int) -> ModuleSpec | None:
    """What the folder of a module after Pooling says.

    Args:
        name: Its class: Dense, LayerNorm, Normalize or Dropout.
        folder: The module's folder.
        root: The model's folder.
        dimensions: Coordinates of the vectors it is given.

    Returns:
        `None` for a module without effect.

    Raises:
        ModelLoadError: It does not fit to what comes before, or does something that is not supported.
    """
    fields = JsonFields(folder / "config.json", root)
    for key in ("module_input_name", "module_output_name"):
        if (place := fields.text(key)) not in (None, _SENTENCE):
            raise fields.error(f"has `{key}` = `{place}`; only `{_SENTENCE}` is supported.", hint=_other_model())
    if name == "Dense":
        return _dense(_config(folder, root), dimensions)
    if name == "LayerNorm":
        return _layer_norm(_config(folder, root), dimensions)
    return NormalizeSpec() if name == "Normalize" else None


def _dense(fields: JsonFields, dimensions: int) -> DenseSpec:
    in_features, out_features = _required(fields, "in_features"), _required(fields, "out_features")
    _check_chain(fields, "in_features", in_features, dimensions)
    return DenseSpec(
        weights=_weights(fields),
        in_features=in_features,
        out_features=out_features,
        bias=fields.flag("bias", True),
        activation=_activation(fields),
        residual=fields.flag("use_residual", False),
    )


def _activation(fields: JsonFields) -> str:
    path = fields.text("activation_function") or "torch.nn.modules.activation.Tanh"
    name = path.rpartition(".")[2]
    if not path.startswith("torch.nn.") or name not in ACTIVATIONS:
        raise fields.error(
            f"has `activation_function` = `{path}`, which is not supported.",
            hint="Supported are, of `torch.nn`, " + ", ".join(f"`{known}`" for known in ACTIVATIONS) + ".",
        )
    return name


def _layer_norm(fields: JsonFields, dimensions: int) -> LayerNormSpec:
    size = _required(fields, "dimension")
    _check_chain(fields, "dimension", size, dimensions)
    return LayerNormSpec(weights=_weights(fields), dimensions=size)


def _config(folder: Path, root: Path) -> JsonFields:
    fields = JsonFields(folder / "config.json", root)
    if not fields.exists:
        raise fields.error("is missing; modules.json names its folder.", hint="Download the model again, whole.")
    return fields


def _required(fields: JsonFields, key: str) -> int:
    size = fields.size(key)
    if size is None:
        raise fields.error(f"lacks `{key}`.")
    return size


def _check_chain(fields: JsonFields, key: str, size: int, dimensions: int) -> None:
    if size != dimensions:
        raise fields.error(
            f"has `{key}` = {size}, but the module before it makes vectors of {dimensions} coordinates.",
            hint="The folders belong to different models; download the model again.",
        )


def _weights(fields: JsonFields) -> Path:
    file = fields.file.with_name("model.safetensors")
    if file.is_file():
        return file
    if file.with_name("pytorch_model.bin").is_file():
        raise fields.error(
            "has its weights in pytorch_model.bin only; files of pickled objects are not read.",
            hint="Convert the model: mlxi models import FOLDER",
        )
    raise fields.error("has no model.safetensors beside it.", hint="Download the model again, whole.")


def _other_model() -> str:
    return "Choose another model, or run this one with sentence-transformers."
