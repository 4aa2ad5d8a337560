"""The only file that imports mlx_lm: renames upstream stop here.

Import it on the worker thread, after `blas.preload_blas`. Pinned to mlx-lm 0.32; a contract test holds the
signatures used here against the installed version.
"""

import copy
import importlib.util
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from mlx_integrations.errors import MLXUnavailableError


@contextmanager
def _open_file_limit_kept() -> Iterator[None]:
    """Keep `import mlx_lm` from lowering RLIMIT_NOFILE of the whole process to 2048/4096 (mlx_lm/utils.py).

    Lowering the hard limit cannot be undone without privileges, so the call itself is made to do nothing.
    """
    import resource

    set_limit = resource.setrlimit
    resource.setrlimit = lambda *_: None
    try:
        yield
    finally:
        resource.setrlimit = set_limit


try:
    import mlx.core as mx
    import mlx.nn as nn
    from mlx.utils import tree_flatten, tree_map

    _advisory = os.environ.get("TRANSFORMERS_NO_ADVISORY_WARNINGS")
    with _open_file_limit_kept(), warnings.catch_warnings():
        # In a notebook, tqdm (through transformers) complains about a widget that nothing here uses.
        warnings.filterwarnings("ignore", message="IProgress not found")
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
        from mlx_lm.utils import MODEL_REMAPPING, _get_classes, dequantize_model, load_model, load_tokenizer
    if _advisory is None:
        os.environ.pop("TRANSFORMERS_NO_ADVISORY_WARNINGS", None)
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
    "load_tokenizer",
    "load_weights",
    "make_logits_processors",
    "make_prompt_cache",
    "mx",
    "new_backbone",
    "new_batch_generator",
    "nn",
    "own_arrays",
    "tree_flatten",
    "trim_prompt_cache",
]


def backend_name() -> Literal["metal", "cuda", "cpu"]:
    """Where arrays are computed by default."""
    if mx.default_device().type == mx.DeviceType.cpu:
        return "cpu"
    return "metal" if mx.metal.is_available() else "cuda"


def has_architecture(model_type: str) -> bool:
    """Whether mlx-lm has code for this `model_type`."""
    name = MODEL_REMAPPING.get(model_type, model_type)
    if not name.isidentifier():
        return False
    return importlib.util.find_spec(f"mlx_lm.models.{name}") is not None


def load_weights(model_path: Path, *, cpu_float32: bool) -> Any:
    """Load a model with its weights evaluated; on the CPU backend as float32.

    The CPU backend has no fast path for half precision or quantised weights (0.02 to 0.6 GB/s), float32 uses BLAS.
    """
    on_cpu = mx.default_device().type == mx.DeviceType.cpu
    widen = on_cpu and cpu_float32
    model, _config = load_model(model_path, lazy=widen, strict=True)
    if widen:
        dequantize_model(model)
        model.update(tree_map(_as_float32, model.parameters()))
        mx.eval(model.parameters())
    model.eval()
    return model


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
