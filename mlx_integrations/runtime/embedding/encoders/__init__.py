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

from mlx_integrations.errors import UnsupportedArchitectureError
from mlx_integrations.runtime.embedding.encoders.base import Encoder
from mlx_integrations.runtime.embedding.encoders.bert import BertEncoder
from mlx_integrations.runtime.embedding.encoders.configuration import EncoderConfig
from mlx_integrations.runtime.embedding.encoders.distilbert import DistilBertEncoder
from mlx_integrations.runtime.embedding.encoders.modernbert import ModernBertEncoder
from mlx_integrations.runtime.embedding.encoders.mpnet import MPNetEncoder
from mlx_integrations.runtime.embedding.encoders.nomic import NomicBertEncoder
from mlx_integrations.runtime.embedding.encoders.roberta import RobertaEncoder

__all__ = ["ENCODERS", "Encoder", "make_encoder"]

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


def make_encoder(config: Mapping[str, Any], *, path: Path) -> Encoder:
    """Build the encoder that a configuration describes, with random weights.

    Args:
        config: config.json, as it stands.
        path: Its folder, for errors.

    Raises:
        ModelLoadError: A key is missing or has an impossible value.
        UnsupportedArchitectureError: There is no code for it, or for one of its options.
    """
    model_type = str(config.get("model_type"))
    if model_type in ENCODERS:
        return ENCODERS[model_type](EncoderConfig(config, path))
    # Decoders are encoders too, so that their file imports from this package.
    from mlx_integrations.runtime.embedding.decoders import DECODER_TYPES, make_decoder

    if model_type in DECODER_TYPES:
        return make_decoder(config, path=path)
    supported = ", ".join(f"`{name}`" for name in sorted({*ENCODERS, *DECODER_TYPES}))
    raise UnsupportedArchitectureError(
        f"`{path}` is a `{model_type}`, for which there is no embedding engine.",
        model_path=str(path),
        model_type=model_type,
        hint=f"Choose a model of one of these types: {supported}.",
    )
