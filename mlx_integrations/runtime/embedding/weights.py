"""A checkpoint's tensors into an encoder: all of them, of the right shape, made of numbers. Worker thread only."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from mlx_integrations.errors import ModelLoadError
from mlx_integrations.runtime._mlx import mx, nn, tree_flatten
from mlx_integrations.runtime.embedding.encoders.base import Encoder
from mlx_integrations.runtime.folder import WeightFile

__all__ = ["load_encoder_weights"]

_WHOLE_FILE = "model.safetensors"
_INDEX_FILE = "model.safetensors.index.json"
_SHOWN_NAMES = 5
_DOWNLOAD_AGAIN = "Download the model again; config.json and the weights must belong together."
_SAVE_AGAIN = "Load the model with transformers and save it again with `save_pretrained`, which writes safetensors."
# Modes with scales of one byte, by bits and group size.
_BYTE_SCALE_MODES = {(4, 16): "nvfp4", (4, 32): "mxfp4", (8, 32): "mxfp8"}
_AFFINE_BITS = (1, 2, 3, 4, 5, 6, 8)
_AFFINE_GROUP_SIZES = (32, 64, 128)


def load_encoder_weights(
    encoder: Encoder, files: Sequence[WeightFile], *, config: Mapping[str, Any], cpu_float32: bool
) -> None:
    """Read a checkpoint into an encoder and evaluate its weights.

    Args:
        encoder: Made for the same configuration.
        files: The weights of one folder.
        config: config.json; a quantised checkpoint says so there.
        cpu_float32: On the CPU backend, widen half precision and quantised weights to float32: it has no fast path
            for either.

    Raises:
        ModelLoadError: A file is damaged, or tensors are missing, unexpected, of another shape or type, or not finite.
    """
    checkpoint = _Checkpoint([file.path for file in files], config)
    tensors = checkpoint.read(encoder)
    packings = checkpoint.packings(encoder, tensors)
    if cpu_float32 and mx.default_device().type == mx.DeviceType.cpu:
        _widen(tensors, packings)
    elif packings:
        nn.quantize(encoder, class_predicate=lambda path, _: asdict(packings[path]) if path in packings else False)
    checkpoint.check_fit(encoder, tensors)
    checkpoint.check_finite(encoder, tensors, packings)
    encoder.load_weights(list(tensors.items()), strict=True)
    encoder.eval()
    mx.eval(encoder.parameters())


@dataclass(frozen=True, slots=True)
class _Packing:
    """How a module's weights are quantised, in the words of `mlx.core.quantize`."""

    group_size: int
    bits: int
    mode: str


def _widen(tensors: dict[str, Any], packings: Mapping[str, _Packing]) -> None:
    """Make every number float32, quantised ones too; in place."""
    for module, packing in packings.items():
        tensors[f"{module}.weight"] = _unpacked(tensors, module, packing)
        tensors.pop(f"{module}.scales")
        tensors.pop(f"{module}.biases", None)
    for name, tensor in tensors.items():
        if mx.issubdtype(tensor.dtype, mx.floating):
            tensors[name] = tensor.astype(mx.float32)


def _unpacked(tensors: Mapping[str, Any], module: str, packing: _Packing) -> Any:
    """A module's quantised weights as float32."""
    scales, biases = tensors[f"{module}.scales"], tensors.get(f"{module}.biases")
    if biases is not None:
        scales, biases = scales.astype(mx.float32), biases.astype(mx.float32)
    return mx.dequantize(tensors[f"{module}.weight"], scales, biases, dtype=mx.float32, **asdict(packing))


class _Checkpoint:
    """The weights of one folder, and what can be wrong with them.

    Args:
        files: Its safetensors files.
        config: config.json.
    """

    def __init__(self, files: Sequence[Path], config: Mapping[str, Any]) -> None:
        self._folder = files[0].parent if files else Path()
        self._config = config
        other = next((file for file in files if file.suffix != ".safetensors"), None)
        if other is not None:
            raise self._error(f"`{other}` is not a safetensors file.", hint=_SAVE_AGAIN)
        self._files = self._chosen(files)

    def _chosen(self, files: Sequence[Path]) -> list[Path]:
        """The files that transformers would read: the whole one, else those that the index names, else all."""
        by_name = {file.name: file for file in files}
        if _WHOLE_FILE in by_name:
            return [by_name[_WHOLE_FILE]]
        index = self._folder / _INDEX_FILE
        if not index.is_file():
            return list(files)
        try:
            named = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise self._error(f"`{index}` cannot be read: {error}.") from error
        absent = [str(name) for name in named if name not in by_name]
        if absent:
            raise self._error(f"`{self._folder}` lacks {_listed('file', absent)} that {_INDEX_FILE} names.")
        return [by_name[name] for name in named]

    def read(self, encoder: Encoder) -> dict[str, Any]:
        """All tensors, not evaluated yet, under the names that they have in the encoder."""
        tensors: dict[str, Any] = {}
        for file in self._files:
            try:
                found = cast(dict[str, Any], mx.load(str(file)))
            except (RuntimeError, ValueError, OSError) as error:
                raise self._error(f"`{file}` cannot be read: {error}.") from error
            twice = sorted(found.keys() & tensors.keys())
            if twice:
                raise self._error(f"`{file}` has {_listed('tensor', twice)} that another file has too.")
            tensors |= found
        try:
            return encoder.sanitize(tensors)
        except ValueError as error:
            raise self._error(f"The tensors in `{self._folder}` do not go together: {error}.") from error

    def packings(self, encoder: Encoder, tensors: Mapping[str, Any]) -> dict[str, _Packing]:
        """The quantised modules.

        What config.json says about single layers goes by the names of the program that wrote it, so it is read off the
        shapes instead.
        """
        described = self._config.get("quantization") or self._config.get("quantization_config")
        method = described.get("quant_method") if isinstance(described, Mapping) else None
        if method is not None:
            raise self._error(
                f"`{self._folder}` is quantised by `{method}`, which is not supported.",
                hint="Use the model's unquantised weights, or ones quantised by `mlx_lm.convert`.",
            )
        names = [name for name in tensors if name.endswith(".scales")]
        if names and not described:
            shown = [encoder.checkpoint_name(name) for name in names]
            raise self._error(
                f"`{self._folder}` has {_listed('tensor', shown)} of a quantised model, "
                "but config.json has no `quantization`."
            )
        shapes = {name: value.shape for name, value in _parameters(encoder).items()}
        modules = [name.removesuffix(".scales") for name in names]
        return {module: self._packing(encoder, tensors, module, shapes) for module in modules}

    def _packing(
        self, encoder: Encoder, tensors: Mapping[str, Any], module: str, shapes: Mapping[str, tuple[int, ...]]
    ) -> _Packing:
        plain = shapes.get(f"{module}.weight", ())
        scales = tensors[f"{module}.scales"]
        weight = tensors.get(f"{module}.weight", scales)
        biases = tensors.get(f"{module}.biases")
        is_table = len(plain) == weight.ndim == scales.ndim == 2 and weight.dtype == mx.uint32 and scales.shape[1] > 0
        is_even = is_table and scales.shape[0] == weight.shape[0] and (biases is None or biases.shape == scales.shape)
        if is_even:
            bits, bits_left = divmod(weight.shape[1] * 32, plain[1])
            group_size, columns_left = divmod(plain[1], scales.shape[1])
            mode = _BYTE_SCALE_MODES.get((bits, group_size)) if biases is None else "affine"
            fits = biases is None or (bits in _AFFINE_BITS and group_size in _AFFINE_GROUP_SIZES)
            if mode and fits and not bits_left and not columns_left:
                return _Packing(group_size, bits, mode)
        raise self._error(
            f"`{encoder.checkpoint_name(f'{module}.weight')}` in `{self._folder}` is quantised in a way that does not "
            f"fit its shape, {tuple(plain)}."
        )

    def check_fit(self, encoder: Encoder, tensors: Mapping[str, Any]) -> None:
        """Refuse missing, unexpected and misshapen tensors."""
        wanted = _parameters(encoder)
        missing = [encoder.checkpoint_name(name) for name in wanted if name not in tensors]
        if missing:
            raise self._error(f"`{self._folder}` lacks {_listed('tensor', missing)}.")
        unexpected = [encoder.checkpoint_name(name) for name in tensors if name not in wanted]
        if unexpected:
            kind = self._config.get("model_type")
            raise self._error(f"`{self._folder}` has {_listed('tensor', unexpected)} that a `{kind}` has no place for.")
        for name, tensor in tensors.items():
            expected = wanted[name]
            if tensor.shape != expected.shape:
                what = f"of shape {tensor.shape} instead of {expected.shape}"
            elif mx.issubdtype(expected.dtype, mx.floating) != mx.issubdtype(tensor.dtype, mx.floating):
                what = f"of type {str(tensor.dtype).removeprefix('mlx.core.')}, which is not supported"
            else:
                continue
            raise self._error(f"`{encoder.checkpoint_name(name)}` in `{self._folder}` is {what}.")

    def check_finite(self, encoder: Encoder, tensors: Mapping[str, Any], packings: Mapping[str, _Packing]) -> None:
        """Refuse tensors with NaN or infinity: one of them makes every vector NaN."""
        checked = {name: tensor for name, tensor in tensors.items() if mx.issubdtype(tensor.dtype, mx.floating)}
        for module, packing in packings.items():
            # Scales of one byte can stand for NaN as well.
            if f"{module}.scales" in tensors and f"{module}.biases" not in tensors:
                checked[f"{module}.scales"] = _unpacked(tensors, module, packing)
        flags = mx.stack([mx.isfinite(tensor).all() for tensor in checked.values()])
        are_finite = cast(list[bool], flags.tolist())
        bad = [encoder.checkpoint_name(name) for name, is_fine in zip(checked, are_finite, strict=True) if not is_fine]
        if bad:
            raise self._error(
                f"`{self._folder}` has {_listed('tensor', bad)} with values that are not finite numbers.",
                hint="The file is damaged or the training that made it failed; use another copy of the model.",
            )

    def _error(self, message: str, *, hint: str = _DOWNLOAD_AGAIN) -> ModelLoadError:
        return ModelLoadError(message, model_path=str(self._folder), hint=hint)


def _parameters(encoder: Encoder) -> dict[str, Any]:
    flat = cast(list[tuple[str, Any]], tree_flatten(encoder.parameters()))
    return dict(flat)


def _listed(kind: str, names: Iterable[str]) -> str:
    """The number of things, and the first few names."""
    every = list(names)
    shown = ", ".join(f"`{name}`" for name in every[:_SHOWN_NAMES])
    more = f" and {len(every) - _SHOWN_NAMES} more" if len(every) > _SHOWN_NAMES else ""
    return f"the {kind} {shown}" if len(every) == 1 else f"{len(every)} {kind}s ({shown}{more})"
