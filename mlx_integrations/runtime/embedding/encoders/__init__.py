"""Encoders in mlx.nn: token ids in, one hidden state a token out, equal to transformers' own models.

    configuration.py   config.json, read key by key
    base.py            what every encoder offers; names in checkpoints
    activations.py     activation functions, and a fast way to compute them on a CPU
    layers.py          attention, feed-forward, embeddings
    rotary.py          rotary positions
    bert.py, ...       one file an architecture

Worker thread only.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mlx_integrations.runtime.embedding.encoders.base import Encoder
from mlx_integrations.runtime.embedding.encoders.bert import BertEncoder
from mlx_integrations.runtime.embedding.encoders.configuration import EncoderConfig
from mlx_integrations.runtime.embedding.encoders.distilbert import DistilBertEncoder
from mlx_integrations.runtime.embedding.encoders.modernbert import ModernBertEncoder
from mlx_integrations.runtime.embedding.encoders.mpnet import MPNetEncoder
from mlx_integrations.runtime.embedding.encoders.nomic import NomicBertEncoder
from mlx_integrations.runtime.embedding.encoders.roberta import RobertaEncoder

__all__ = ["ENCODERS", "Encoder", "check_architecture", "make_encoder"]

ENCODERS: Mapping[str, Callable[[EncoderConfig], Encoder]] = {
    "bert": BertEncoder,
    "camembert": RobertaEncoder,
    "distilbert": DistilBertEncoder,
    "modernbert": ModernBertEncoder,
    "mpnet": MPNetEncoder,
    "nomic_bert": NomicBertEncoder,
    "roberta": RobertaEncoder,
    "xlm-roberta": RobertaEncoder,
}
"""Architectures by their `model_type`."""


def check_architecture(config: Mapping[str, Any], *, path: Path) -> None:
    """Refuse a model that there is no code for.

    Args:
        config: config.json, as it stands.
        path: Its folder, for errors.

    Raises:
        UnsupportedArchitectureError: There is none, or it needs an extra that is not installed.
    """
    model_type = str(config.get("model_type"))
    # Decoders are encoders too, so that their files import from this package.
    from mlx_integrations.runtime.embedding.decoders import DECODER_TYPES
    from mlx_integrations.runtime.embedding.optional_engine import OPTIONAL_TYPES, check_optional_type, unserved

    if model_type in OPTIONAL_TYPES:
        check_optional_type(model_type, path)
    elif model_type not in ENCODERS and model_type not in DECODER_TYPES:
        listed = ", ".join(f"`{name}`" for name in sorted({*ENCODERS, *DECODER_TYPES}))
        optional = ", ".join(f"`{name}`" for name in sorted(OPTIONAL_TYPES))
        raise unserved(config, path, f"{listed}; with the extra `mlx-embeddings` also {optional}")


def make_encoder(config: Mapping[str, Any], *, path: Path) -> Encoder:
    """Build the encoder that a configuration describes, with random weights.

    Args:
        config: config.json, as it stands.
        path: Its folder, for errors.

    Raises:
        ModelLoadError: A key is missing or has an impossible value.
        UnsupportedArchitectureError: There is no code for it, or for one of its options.
    """
    check_architecture(config, path=path)
    model_type = str(config["model_type"])
    if model_type in ENCODERS:
        return ENCODERS[model_type](EncoderConfig(config, path))
    from mlx_integrations.runtime.embedding.decoders import DECODER_TYPES, make_decoder
    from mlx_integrations.runtime.embedding.optional_engine import OptionalEncoder

    return make_decoder(config, path=path) if model_type in DECODER_TYPES else OptionalEncoder(config, path)
