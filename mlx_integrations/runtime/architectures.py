"""Whether there is code for a model, told from its config.json and the names of its files.

Imports neither MLX nor mlx-lm, so that a download can be planned on any machine and in a few milliseconds: mlx-lm is
looked at as files on the disk.
"""

import ast
import importlib.util
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from mlx_integrations.types import Support

__all__ = ["DECODER_TYPES", "ENCODER_TYPES", "OPTIONAL_TYPES", "describe_support"]

# Those of runtime/embedding/, whose modules import MLX; a test holds the two together.
ENCODER_TYPES = frozenset(
    {"bert", "camembert", "distilbert", "modernbert", "mpnet", "nomic_bert", "roberta", "xlm-roberta"}
)
"""Encoders of this package, by `model_type`."""
DECODER_TYPES = frozenset({"gemma3_text", "llama", "mistral", "qwen2", "qwen3"})
"""Models that write, and whose layers embed as well."""
OPTIONAL_TYPES = frozenset({"lfm2", "llama_bidirec"})
"""Embedding models that need the extra `mlx-embeddings`."""

_EMBEDDING_FILES = ("modules.json", "config_sentence_transformers.json")
_EMBEDDING_ONLY = ENCODER_TYPES | {"llama_bidirec"}

# What a model is for, where mlx-lm has no code for it: the part before `ForConditionalGeneration` says too little.
_READS_SPEECH = frozenset(
    """audio-spectrogram-transformer clap clvp data2vec-audio dac encodec hubert kyutai_speech_to_text mimi moonshine
    musicgen parler_tts qwen2_audio seamless_m4t seamless_m4t_v2 sew speech_to_text speecht5 unispeech univnet vits
    voxtral wav2vec2 wav2vec2-bert wavlm whisper xcodec""".split()
)
_READS_IMAGES = frozenset(
    """align aya_vision beit blip blip-2 chameleon chinese_clip clip convnext convnextv2 deit depth_anything detr dinov2
    dinov3_vit dpt fastvlm florence2 fuyu git got_ocr2 grounding-dino idefics idefics2 idefics3 instructblip
    internvl internvl_chat janus layoutlmv3 llava_next llava_onevision mllama molmo owlv2 owlvit paligemma
    phi3_v phi4mm resnet sam sam2 segformer siglip siglip2 smolvlm swin trocr vipllava vision-encoder-decoder vit
    vit_mae yolos""".split()
)
_READS_AND_REWRITES = frozenset(
    """bart bigbird_pegasus blenderbot blenderbot-small led longt5 m2m_100 marian mbart mt5 mvp nllb-moe pegasus
    pegasus_x prophetnet switch_transformers t5 t5gemma umt5""".split()
)

_MLX_MODES = {"affine": None, "mxfp4": (32, 4), "mxfp8": (32, 8), "nvfp4": (16, 4)}
_AFFINE_BITS = (1, 2, 3, 4, 5, 6, 8)
_AFFINE_GROUP_SIZES = (32, 64, 128)
_COMPRESSED_FORMATS = ("mxfp4-pack-quantized", "nvfp4-pack-quantized", "pack-quantized")
_INSTALL_EXTRA = 'pip install "mlx-integrations[mlx-embeddings]"'

_DEFINES_MODEL = re.compile(r"^class Model\(|^from .+ import .*\bModel\b", re.MULTILINE)
_TABLE = r"^{name} = (\{{.*?^\}})"

Kind = Literal["chat", "embedding"]


def describe_support(config: Mapping[str, Any], files: Sequence[str]) -> Support:
    """Tell whether a model can be run here.

    Args:
        config: Its config.json; empty if it has none.
        files: Names of its files, with `/` between folders.

    Returns:
        Whether there is code for it, for the way it is quantised and for the format of its weights.
    """
    names = {PurePosixPath(name.replace("\\", "/")).as_posix() for name in files}
    kind = _kind(config, names)
    reason = _whole_model(config, names)
    if not reason:
        reason = _embedding_code(config) if kind == "embedding" else _chat_code(config)
    if not reason:
        reason = _quantization(config, kind)
    if not reason:
        reason = _weights(names)
    if reason:
        return Support(kind=kind, is_supported=False, reason=reason)
    note = "It reads images as well; only its part for texts is run." if "vision_config" in config else ""
    return Support(kind=kind, is_supported=True, reason=note)


def _kind(config: Mapping[str, Any], names: set[str]) -> Kind | None:
    """What it would be run as; a model that both could run is a chat unless its files say how to pool."""
    model_type = config.get("model_type")
    if names.intersection(_EMBEDDING_FILES) or model_type in _EMBEDDING_ONLY:
        return "embedding"
    if not isinstance(model_type, str) or model_type in _READS_SPEECH | _READS_IMAGES:
        return None
    return "chat"


def _whole_model(config: Mapping[str, Any], names: set[str]) -> str:
    """Why the files are not a model of this kind at all."""
    if "model_index.json" in names:
        return "It makes images (it is a pipeline of diffusers), it does not write."
    if config.get("model_type"):
        return ""
    if "adapter_config.json" in names:
        return "It is an adapter, not a whole model: merge it into its base model first."
    if any(name.endswith(".gguf") for name in names):
        return "It is a GGUF file: turn it into an MLX folder with `mlxi models import`."
    return "Its config.json names no `model_type`." if config else "It has no config.json."


def _embedding_code(config: Mapping[str, Any]) -> str:
    model_type = str(config["model_type"])
    if str((config.get("architectures") or [""])[0]).endswith("ForSequenceClassification"):
        return f"It is a `{model_type}` that sorts or ranks texts, not an embedding model."
    if model_type in ENCODER_TYPES | DECODER_TYPES:
        return ""
    if model_type in OPTIONAL_TYPES:
        if importlib.util.find_spec("mlx_embeddings") is not None:
            return ""
        return f"Models of type `{model_type}` need an extra: {_INSTALL_EXTRA}."
    return _without_code(config, f"There is no embedding engine for models of type `{model_type}`.")


def _chat_code(config: Mapping[str, Any]) -> str:
    model_type = str(config["model_type"])
    if config.get("model_file"):
        return f"It brings its own code (`{config['model_file']}`), which is not run."
    if _models_folder() is None:
        return "mlx-lm, which runs chats, is not installed."
    if _code_file(_code_name(config)) is not None:
        return ""
    return _without_code(config, f"mlx-lm has no code for models of type `{model_type}`.")


def _without_code(config: Mapping[str, Any], otherwise: str) -> str:
    """Say what a model is that nothing here runs."""
    model_type = str(config["model_type"])
    if model_type in _READS_SPEECH or "audio_config" in config:
        return f"`{model_type}` is a model for speech or sound, which is not run here."
    if model_type in _READS_IMAGES or "vision_config" in config:
        return f"`{model_type}` is a model for images, which is not run here."
    if model_type in _READS_AND_REWRITES or config.get("is_encoder_decoder"):
        return f"`{model_type}` rewrites texts with an encoder and a decoder, which mlx-lm does not run."
    return otherwise


def _quantization(config: Mapping[str, Any], kind: Kind | None) -> str:
    """Why the way the weights are packed cannot be read, by the rules of mlx_lm/utils.py (`load_model`)."""
    packed = config.get("quantization")
    if isinstance(packed, Mapping):
        return _mlx_quantization(packed)
    described = config.get("quantization_config")
    if not isinstance(described, Mapping):
        described = (config.get("text_config") or {}).get("quantization_config")
    if not isinstance(described, Mapping) or described.get("quant_method") is None:
        return ""
    method = described["quant_method"]
    readable = kind != "embedding" and _is_readable(str(method), described, config)
    return "" if readable else f"It is quantised by `{method}` in a way that cannot be read here."


def _mlx_quantization(packed: Mapping[str, Any]) -> str:
    mode, bits, group_size = packed.get("mode", "affine"), packed.get("bits"), packed.get("group_size")
    if mode not in _MLX_MODES:
        return f"It is quantised in the mode `{mode}`, which is not known."
    only = _MLX_MODES[mode]
    fits = (group_size, bits) == only if only else bits in _AFFINE_BITS and group_size in _AFFINE_GROUP_SIZES
    return (
        "" if fits else f"It is quantised to {bits} bits in groups of {group_size} (`{mode}`), which MLX does not do."
    )


def _is_readable(method: str, described: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    if method in ("bitnet", "mxfp4", "mxfp8"):
        return True
    if method in ("awq", "gptq"):
        return described.get("bits", 4) == 4 and not described.get("desc_act")
    if method == "compressed-tensors":
        return described.get("format") in _COMPRESSED_FORMATS
    if method == "modelopt":
        settings = described.get("quantization", described)
        return isinstance(settings, Mapping) and settings.get("quant_algo") == "NVFP4"
    if method == "fp8":
        file = _code_file(_code_name(config))
        by_model = file is not None and "scale_inv" in _source(file)
        is_mx = described.get("scale_fmt") == "ue8m0" and list(described.get("weight_block_size") or ()) == [32, 32]
        return by_model or is_mx
    return False


def _weights(names: set[str]) -> str:
    """Why the weights cannot be loaded as they are, by their files' names."""
    files = [PurePosixPath(name) for name in names]
    if not files or any(file.match("model*.safetensors") for file in files):
        return ""
    kinds = {file.suffix for file in files}
    found = [kind for kind in (".bin", ".pt", ".pth", ".gguf") if kind in kinds]
    if found:
        return f"It has its weights as {found[0]} only: turn them into MLX's format with `mlxi models import`."
    if ".safetensors" in kinds:
        return "None of its safetensors files is called model*.safetensors, as mlx-lm expects."
    return "It has no model*.safetensors."


def _code_name(config: Mapping[str, Any]) -> str:
    """The module of mlx-lm that a configuration asks for, as `_get_classes` in mlx_lm/utils.py finds it."""
    model_type = str(config["model_type"])
    architectures = config.get("architectures") or ()
    by_architecture = _table("MODEL_ARCHITECTURE_REMAPPING")
    for architecture in (architectures,) if isinstance(architectures, str) else architectures:
        if (model_type, architecture) in by_architecture:
            return str(by_architecture[model_type, architecture])
    return str(_table("MODEL_REMAPPING").get(model_type, model_type))


@lru_cache(maxsize=1)
def _models_folder() -> Path | None:
    spec = importlib.util.find_spec("mlx_lm")
    folders = spec.submodule_search_locations if spec is not None else None
    return Path(next(iter(folders)), "models") if folders else None


@lru_cache(maxsize=256)
def _code_file(name: str) -> Path | None:
    """mlx-lm's file for an architecture; some files beside them hold layers, not models."""
    folder = _models_folder()
    if folder is None or not name.replace("-", "_").isidentifier():
        return None
    file = folder / f"{name}.py"
    return file if file.is_file() and _DEFINES_MODEL.search(_source(file)) else None


def _source(file: Path) -> str:
    return file.read_text(encoding="utf-8")


@lru_cache(maxsize=2)
def _table(name: str) -> dict[Any, str]:
    """A dictionary of mlx_lm/utils.py, which importing would cost seconds."""
    folder = _models_folder()
    if folder is None:
        return {}
    found = re.search(_TABLE.format(name=name), _source(folder.parent / "utils.py"), re.MULTILINE | re.DOTALL)
    table: dict[Any, str] = ast.literal_eval(found[1]) if found else {}
    return table
