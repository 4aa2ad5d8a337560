"""The only file that imports mlx_lm and mlx_embeddings: renames upstream stop here.

Import it on the worker thread, after `blas.preload_blas`. Pinned to mlx-lm 0.32 and mlx-embeddings 0.1; contract tests
hold what is used here against the installed versions. mlx-embeddings is optional and imported at first use only.
"""

import copy
import importlib.util
import inspect
import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from mlx_integrations.errors import MLXUnavailableError

_QUIETING_VARIABLES = ("TRANSFORMERS_NO_ADVISORY_WARNINGS", "TRANSFORMERS_VERBOSITY")


@contextmanager
def _process_kept() -> Iterator[None]:
    """Keep an import from changing the whole process.

    `import mlx_lm` lowers RLIMIT_NOFILE to 2048/4096 (mlx_lm/utils.py). Lowering the hard limit cannot be undone
    without privileges, so the call itself is made to do nothing. mlx_lm and mlx_vlm, which mlx_embeddings needs, set
    variables that quiet transformers; scipy, urllib3 and others add filters for warnings.
    """
    import resource

    set_limit = resource.setrlimit
    variables = {name: os.environ.get(name) for name in _QUIETING_VARIABLES}
    resource.setrlimit = lambda *_: None
    try:
        with warnings.catch_warnings():
            # In a notebook, tqdm (through transformers) complains about a widget that nothing here uses.
            warnings.filterwarnings("ignore", message="IProgress not found")
            yield
    finally:
        resource.setrlimit = set_limit
        for name, value in variables.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


try:
    import mlx.core as mx
    import mlx.nn as nn
    from mlx.utils import tree_flatten, tree_map, tree_map_with_path

    with _process_kept():
        from mlx_lm.generate import BatchGenerator, StopSequences
        from mlx_lm.models.cache import (
            ArraysCache,
            CacheList,
            can_trim_prompt_cache,
            make_prompt_cache,
            trim_prompt_cache,
        )
        from mlx_lm.sample_utils import make_logits_processors
        from mlx_lm.tokenizer_utils import TokenizerWrapper
        from mlx_lm.utils import (
            MODEL_REMAPPING,
            _get_classes,
            dequantize_model,
            load_model,
            load_tokenizer,
            quantize_model,
            save_config,
        )
except ImportError as error:
    raise MLXUnavailableError(f"MLX could not be imported: {error}.") from error

__all__ = [
    "BatchGenerator",
    "TokenizerWrapper",
    "backend_name",
    "caches_can_be_merged",
    "can_trim_prompt_cache",
    "copy_caches",
    "end_sequences",
    "has_architecture",
    "has_optional_architecture",
    "has_optional_engine",
    "lazy_weights",
    "load_tokenizer",
    "load_weights",
    "make_logits_processors",
    "make_prompt_cache",
    "mx",
    "new_backbone",
    "new_batch_generator",
    "new_optional_model",
    "nn",
    "own_arrays",
    "tree_flatten",
    "trim_prompt_cache",
    "wait_for_cpu",
]


def backend_name() -> Literal["metal", "cuda", "cpu"]:
    """Where arrays are computed by default."""
    if mx.default_device().type == mx.DeviceType.cpu:
        return "cpu"
    return "metal" if mx.metal.is_available() else "cuda"


def wait_for_cpu(stream: Any = None) -> None:
    """Wait for what a stream still computes, if that is on the CPU; a GPU has queues of its own.

    Every stream of the CPU backend is a thread, and OpenBLAS made with OpenMP computes one product at a time: the
    thread that comes second spins in `exec_blas` (driver/others/blas_server_omp.c) on a core that the first one's
    helpers need. On two cores, a layer of MiniLM took three to four times as long beside a decoding step as after it.

    Args:
        stream: The default one if it is left out.
    """
    if backend_name() == "cpu":
        mx.synchronize(stream)


def has_architecture(model_type: str) -> bool:
    """Whether mlx-lm has code for this `model_type`."""
    name = MODEL_REMAPPING.get(model_type, model_type)
    if not name.replace("-", "_").isidentifier():
        return False
    return importlib.util.find_spec(f"mlx_lm.models.{name}") is not None


def load_weights(model_path: Path, *, cpu_float32: bool) -> Any:
    """Load a model with its weights evaluated; on the CPU backend as float32.

    The CPU backend has no fast path for half precision or quantised weights (0.02 to 0.6 GB/s), float32 uses BLAS.
    """
    on_cpu = mx.default_device().type == mx.DeviceType.cpu
    widen = on_cpu and cpu_float32
    model, _config = load_model(model_path, lazy=widen, strict=True, model_config=_older_rope(model_path))
    if widen:
        dequantize_model(model)
        model.update(tree_map(_as_float32, model.parameters()))
        mx.eval(model.parameters())
    model.eval()
    return model


def lazy_weights(
    model_path: Path, config_file: Path, *, dtype: str | None, bits: int | None, group_size: int
) -> dict[str, Any]:
    """A model's weights under mlx-lm's names and in its shapes, not evaluated yet; writes the config.json they need.

    Does what `mlx_lm.convert` does to weights. That loads and saves the tokenizer as well, which changes its files, and
    writes files of 5 GB at once.

    Args:
        model_path: A folder in the Hugging Face format, all its weights there.
        config_file: What to write.
        dtype: `float16`, `bfloat16` or `float32`, for what is not quantised; `None` leaves types as they are.
        bits: Bits of a quantised weight, or `None`.
        group_size: How many of those share a scale.

    Raises:
        ValueError: Tensors are missing, unexpected or of another shape, or the model brings its own code.
    """
    model, config = load_model(model_path, lazy=True, strict=True, model_config=_older_rope(model_path))
    if dtype is not None:
        wanted, keeps = getattr(mx, dtype), getattr(model, "cast_predicate", lambda _: True)
        model.update(
            tree_map_with_path(
                lambda name, value: (
                    value.astype(wanted) if keeps(name) and mx.issubdtype(value.dtype, mx.floating) else value
                ),
                model.parameters(),
            )
        )
    if bits is not None:
        with _unprinted():
            model, config = quantize_model(model, config, group_size, bits)
    save_config(config, config_file, keep_vision_config="vision_tower" in getattr(model, "model", {}))
    weights: dict[str, Any] = dict(tree_flatten(model.parameters()))
    return weights


@contextmanager
def _unprinted() -> Iterator[None]:
    """Keep mlx_lm.utils from printing: standard output is for data."""
    namespace = save_config.__globals__
    namespace["print"] = lambda *_, **__: None
    try:
        yield
    finally:
        del namespace["print"]


def _older_rope(model_path: Path) -> dict[str, Any]:
    """How positions are rotated, in the names that mlx-lm's class of the model reads.

    transformers 5 writes `rope_parameters`, which most of mlx-lm's classes do not know: they would rotate by their
    default instead, and the model would write nonsense. Values that a configuration already has stay as they are.
    """
    config = json.loads((model_path / "config.json").read_text(encoding="utf-8"))
    rope = config.get("rope_parameters")
    if not isinstance(rope, dict):
        return {}
    _, arguments = _get_classes(config)
    known = inspect.signature(arguments).parameters
    if "rope_parameters" in known:
        return {}
    full = rope.get("full_attention", rope)
    found = {
        "rope_theta": full.get("rope_theta"),
        "rope_local_base_freq": rope.get("sliding_attention", {}).get("rope_theta"),
        "rope_scaling": _older_scaling(full),
    }
    return {name: value for name, value in found.items() if value is not None and config.get(name) is None}


def _older_scaling(rope: dict[str, Any]) -> dict[str, Any] | None:
    if rope.get("rope_type", "default") == "default":
        return None
    return {name: value for name, value in rope.items() if name != "rope_theta"}


def _as_float32(value: Any) -> Any:
    return value.astype(mx.float32) if mx.issubdtype(value.dtype, mx.floating) else value


def new_backbone(config: dict[str, Any]) -> Any:
    """The layers of a decoder without its head, weights not loaded: `embed_tokens`, `layers` and `norm`.

    Each layer is called with hidden states, a mask (`"causal"`, `None` or booleans) and a cache.

    Raises:
        ValueError: The configuration does not fit to mlx-lm's code.
        TypeError: It lacks something that the code needs.
    """
    model_class, arguments_class = _get_classes(config)
    return model_class(arguments_class.from_dict(config)).model


def has_optional_engine() -> bool:
    """Whether mlx-embeddings is installed. Does not import it."""
    return importlib.util.find_spec("mlx_embeddings") is not None


def has_optional_architecture(model_type: str) -> bool:
    """Whether the installed mlx-embeddings has code for this `model_type`. Does not import it."""
    spec = importlib.util.find_spec("mlx_embeddings")
    name = model_type.replace("-", "_")
    if spec is None or not name.isidentifier():
        return False
    folders = [Path(folder, "models") for folder in spec.submodule_search_locations or ()]
    return any((folder / f"{name}.py").is_file() or (folder / name / "__init__.py").is_file() for folder in folders)


def new_optional_model(config: dict[str, Any]) -> Any:
    """A model of mlx-embeddings, weights not loaded: `model` are its layers, `sanitize` names a checkpoint's tensors.

    The first call imports mlx-embeddings, mlx-vlm and what they need, which takes seconds.

    Raises:
        ImportError: It is not installed, or lacks something.
        ValueError: It has no code for this `model_type`, or its configuration does not fit.
        TypeError: The configuration lacks something.
    """
    with _process_kept():
        from mlx_embeddings.utils import _get_classes as classes_of

        model_class, arguments_class, *_ = classes_of(config)
    return model_class(arguments_class.from_dict(config))


def new_batch_generator(model: Any, **options: Any) -> Any:
    """A `BatchGenerator` that leaves the wired memory limit as it set it.

    Each one restores what it found when it is closed (mlx_lm/generate.py); with several models, closing the first would
    unwire the others. The recommended limit is meant for the whole process and may stay.
    """
    generator = BatchGenerator(model, **options)
    generator._old_wired_limit = None
    return generator


@lru_cache(maxsize=64)
def end_sequences(end_ids: tuple[int, ...]) -> Any:
    """What `BatchGenerator` takes to end a row at any of these tokens."""
    return StopSequences([(token_id,) for token_id in end_ids] or None)


def copy_caches(caches: list[Any]) -> list[Any]:
    """Copies that can be trimmed and continued without touching the originals; they share the arrays' memory."""
    return copy.deepcopy(caches)


def own_arrays(caches: list[Any]) -> None:
    """Evaluate caches that were taken out of a batch, as arrays of their own.

    `ArraysCache.extract` slices the batch's buffers (mlx_lm/models/cache.py), which a slice keeps alive as a whole.
    """
    for cache in caches:
        if isinstance(cache, ArraysCache):
            # Adding zero copies; `contiguous` does not, because a row of a batch is contiguous already.
            cache.cache = [None if array is None else array + mx.zeros((), array.dtype) for array in cache.cache]
        elif isinstance(cache, CacheList):
            own_arrays(list(cache.caches))
    mx.eval([cache.state for cache in caches])


def caches_can_be_merged(model: Any) -> bool:
    """Whether rows of this model can share a batch: every layer's cache must know how to merge."""
    return all(hasattr(cache, "merge") for cache in make_prompt_cache(model))
