"""Architectures that mlx-embeddings has code for and this engine has not. Worker thread only.

mlx-embeddings (https://github.com/Blaizzy/mlx-embeddings) is an extra, not a dependency: it is under GPL-3.0 and brings
800 MB. Only its layers are used, for token vectors. By itself it would pool them all by the mean and cut texts after
512 tokens; here the model's own files decide about that, as they do for every other architecture. Only types whose
vectors were compared with transformers' are served, and what its code would not see in config.json is refused.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mlx_integrations.errors import ModelLoadError, UnsupportedArchitectureError
from mlx_integrations.runtime._mlx import has_optional_architecture, has_optional_engine, new_optional_model
from mlx_integrations.runtime.embedding.decoders import CLASS_DEFAULTS, common_arguments, rope_scaling
from mlx_integrations.runtime.embedding.encoders.base import Encoder
from mlx_integrations.runtime.embedding.encoders.configuration import EncoderConfig

__all__ = ["OPTIONAL_TYPES", "OptionalEncoder", "check_optional_type", "unserved"]

_IMAGE_TYPES = frozenset({"colidefics3", "colqwen2_5", "llama_nemotron_vl", "qwen3_vl", "siglip"})
_INSTALL = 'Install it with: pip install "mlx-integrations[mlx-embeddings]" (mlx-embeddings is under GPL-3.0).'
_LFM2_DEFAULTS: Mapping[str, Any] = {
    "block_auto_adjust_ff_dim": True,
    "block_ffn_dim_multiplier": 1.0,
    "block_multiple_of": 256,
    "conv_L_cache": 3,
    "conv_bias": False,
    "intermediate_size": 12_288,
    "max_position_embeddings": 128_000,
    "norm_eps": 1e-5,
    "num_key_value_heads": 8,
    "rope_theta": 1_000_000.0,
}


class _Family(NamedTuple):
    """What one architecture needs.

    Attributes:
        defaults: What transformers' configuration class takes where config.json lacks a key.
        arguments: Makes what mlx-embeddings' code takes otherwise than config.json says it.
        looks_both_ways: Its layers take a mask; those of the others are causal, and padding at the end does not matter.
    """

    defaults: Mapping[str, Any]
    arguments: Callable[[EncoderConfig], dict[str, Any]]
    looks_both_ways: bool


class OptionalEncoder(Encoder):
    """The layers of a model of mlx-embeddings.

    Args:
        config: config.json, as it stands; its `model_type` is one of `OPTIONAL_TYPES`.
        path: Its folder, for errors.

    Raises:
        ModelLoadError: The configuration lacks something, or mlx-embeddings does not take it.
        UnsupportedArchitectureError: It asks for something that mlx-embeddings' code does not do.
    """

    unused = ("lm_head.",)

    def __init__(self, config: Mapping[str, Any], path: Path) -> None:
        super().__init__()
        family = _FAMILIES[str(config["model_type"])]
        completed = {**family.defaults, **config}
        fields = EncoderConfig(completed, path)
        for key in ("num_attention_heads", "num_hidden_layers"):
            fields.size(key)  # mlx-embeddings would take defaults of its own
        self.hidden_size = fields.size("hidden_size")
        self.vocabulary_size = fields.size("vocab_size")
        self._looks_both_ways = family.looks_both_ways
        model = _built({**completed, **family.arguments(fields)}, fields)
        # What it puts behind the layers is left out: the model's own files say what follows.
        self.model = model.model
        self._name_tensors = model.sanitize

    def stages(self, ids: Any, mask: Any) -> Iterator[Any]:
        """Yield the hidden states after every layer; see `Encoder.stages`.

        MLX computes an array when it is asked for. The whole model is called first, which computes nothing, and what
        its layers gave is asked for afterwards, one by one.
        """
        options = {}
        if self._looks_both_ways:
            # A row without tokens sees its padding: softmax over nothing gives NaN.
            options["mask"] = mask[:, None, None, :] | ~mask.any(axis=1)[:, None, None, None]
        outputs: deque[Any] = deque()
        layers = self.model.layers
        self.model.layers = [_Watched(layer, outputs) for layer in layers]
        try:
            outputs.append(self.model(ids, **options))
        finally:
            self.model.layers = layers
        while outputs:
            yield outputs.popleft()

    def sanitize(self, weights: Mapping[str, Any]) -> dict[str, Any]:
        """Give a checkpoint's tensors their names in mlx-embeddings, and the shapes that MLX's convolutions take."""
        named: dict[str, Any] = self._name_tensors(super().sanitize(weights))
        return named

    def checkpoint_name(self, name: str) -> str:
        """What one of our tensors is called in a checkpoint, for errors."""
        return name.removeprefix("model.")


class _Watched:
    """A layer that notes what it gives."""

    def __init__(self, layer: Any, outputs: deque[Any]) -> None:
        self._layer = layer
        self._outputs = outputs

    def __getattr__(self, name: str) -> Any:
        return getattr(self._layer, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        output = self._layer(*args, **kwargs)
        self._outputs.append(output)
        return output


def check_optional_type(model_type: str, path: Path) -> None:
    """Refuse one of `OPTIONAL_TYPES` when mlx-embeddings is not installed, without importing it.

    Raises:
        UnsupportedArchitectureError: It is not there, or one without this type.
    """
    if has_optional_architecture(model_type):
        return
    known = has_optional_engine()
    raise UnsupportedArchitectureError(
        f"`{path}` is a `{model_type}`, which needs mlx-embeddings; "
        f"{'the installed one has no code for it' if known else 'it is not installed'}.",
        model_path=str(path),
        model_type=model_type,
        hint=_INSTALL,
    )


def unserved(config: Mapping[str, Any], path: Path, supported: str) -> UnsupportedArchitectureError:
    """An error about an architecture that nothing here has code for.

    Args:
        config: config.json, as it stands.
        path: Its folder.
        supported: The types that there is code for.
    """
    model_type = str(config.get("model_type"))
    reads_images = model_type in _IMAGE_TYPES or "vision_config" in config
    why = "which reads images; only models of texts are served" if reads_images else "for which there is no engine"
    hint = f"Choose an embedding model of one of these types: {supported}."
    if reads_images or has_optional_architecture(model_type):
        hint += " Or run this one with mlx-embeddings itself: its vectors were not compared with anything here."
    return UnsupportedArchitectureError(
        f"`{path}` is a `{model_type}`, {why}.", model_path=str(path), model_type=model_type, hint=hint
    )


def _built(config: dict[str, Any], fields: EncoderConfig) -> Any:
    check_optional_type(fields.model_type, fields.path)
    try:
        return new_optional_model(config)
    except ImportError as error:
        raise UnsupportedArchitectureError(
            f"`{fields.path}` is a `{fields.model_type}`, which needs mlx-embeddings; it cannot be imported: {error}.",
            model_path=str(fields.path),
            model_type=fields.model_type,
            hint=_INSTALL,
        ) from error
    except (AssertionError, AttributeError, LookupError, TypeError, ValueError, ZeroDivisionError) as error:
        raise ModelLoadError(
            f"`{fields.path / 'config.json'}` does not describe a `{fields.model_type}` model: {error}.",
            model_path=str(fields.path),
            hint="Download the file again.",
        ) from error


def _llama_bidirec(fields: EncoderConfig) -> dict[str, Any]:
    """A Llama without the causal mask.

    Its code knows neither `rope_parameters`, where transformers 5 writes the base of the positions, nor any activation
    but SiLU, and has other defaults than transformers' Llama (mlx_embeddings/models/llama_bidirec.py).
    """
    fields.allow_only("is_causal", False)
    return {**common_arguments(fields), "layer_types": None}


def _lfm2(fields: EncoderConfig) -> dict[str, Any]:
    """Short convolutions and attention, all of it causal."""
    hidden_size = fields.size("hidden_size")
    fields.allow_only("is_causal", True)
    fields.allow_only("head_dim", hidden_size // fields.size("num_attention_heads"))
    fields.allow_only("block_use_swiglu", True)
    for key in ("block_dim", "conv_dim", "conv_dim_out"):
        fields.allow_only(key, hidden_size)
    rope = fields.part("rope_parameters")
    rope_scaling(rope, fields.part("rope_scaling"), allowed=("default",))
    return {
        "block_dim": hidden_size,
        "block_ff_dim": fields.size("block_ff_dim", "intermediate_size"),
        # mlx-lm rounds the size up in any case, transformers only where there is a multiplier.
        "block_multiple_of": fields.size("block_multiple_of") if "block_ffn_dim_multiplier" in fields else 1,
        "rope_theta": rope.number("rope_theta", default=fields.number("rope_theta", default=0.0)),
        "rope_parameters": None,
        # Of two lists that disagree, mlx-lm would take the other one.
        "full_attn_idxs": _attention_layers(fields),
        "layer_types": None,
    }


def _attention_layers(fields: EncoderConfig) -> list[int]:
    """The layers with attention, as transformers reads them (transformers/models/lfm2/configuration_lfm2.py)."""
    layers = fields.size("num_hidden_layers")
    types, found = fields.values_of("layer_types"), fields.values_of("full_attn_idxs")
    if types is None:
        chosen = list(range(layers)) if found is None else found
        if isinstance(chosen, list) and chosen and all(index in range(layers) for index in chosen):
            return chosen
        raise fields.unsupported(f"`full_attn_idxs` = `{found}` with {layers} layers")
    known = ("conv", "full_attention")
    is_list = isinstance(types, list) and len(types) == layers and all(kind in known for kind in types)
    if not is_list or "full_attention" not in types:
        raise fields.unsupported(f"`layer_types` = `{types}` with {layers} layers")
    return [index for index, kind in enumerate(types) if kind == "full_attention"]


_FAMILIES: Mapping[str, _Family] = {
    "lfm2": _Family(_LFM2_DEFAULTS, _lfm2, looks_both_ways=False),
    "llama_bidirec": _Family(CLASS_DEFAULTS["llama"], _llama_bidirec, looks_both_ways=True),
}

OPTIONAL_TYPES = frozenset(_FAMILIES)
"""The values of `model_type` that mlx-embeddings is used for."""
