"""From a model in another format to a folder that the runtime loads.

    safetensors, PyTorch, GGUF     sources.py finds the files
         |                          pytorch_files.py, gguf_*.py read them, tensor by tensor
    Hugging Face's names           written beside the target, for chats only as long as the next step needs them
         |                          mlx_weights.py renames, casts and quantises through mlx-lm
    the target                     staging.py: whole or not at all

An embedding model's tensors keep their names, which is what its encoder expects.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from mlx_integrations.errors import (
    ConversionError,
    InvalidRequestError,
    ModelLoadError,
    UnsupportedArchitectureError,
)
from mlx_integrations.runtime.architectures import describe_support
from mlx_integrations.runtime.convert.gguf_architectures import gguf_config, gguf_tensors, natural_dtype
from mlx_integrations.runtime.convert.gguf_file import GGUFFile, read_gguf
from mlx_integrations.runtime.convert.gguf_tokenizer import write_tokenizer
from mlx_integrations.runtime.convert.mlx_weights import MLXWeights
from mlx_integrations.runtime.convert.pytorch_files import read_pytorch
from mlx_integrations.runtime.convert.safetensors_files import is_safetensors, read_safetensors
from mlx_integrations.runtime.convert.sources import (
    Source,
    SourceFormat,
    companions,
    find_source,
    module_folders,
    weight_files,
)
from mlx_integrations.runtime.convert.staging import check_disk, staged
from mlx_integrations.runtime.convert.tensors import BYTES_OF, FLOATS, Tensor, cast, write_tensors
from mlx_integrations.runtime.folder import read_folder
from mlx_integrations.runtime.worker import Worker, get_worker

__all__ = ["ConversionProgress", "ConvertedModel", "Dtype", "OnProgress", "convert_model"]

Dtype = Literal["float32", "float16", "bfloat16"]

_DTYPES: Final = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
_BITS: Final = (4, 8)
_GROUP_SIZES: Final = (32, 64, 128)
_PARTS = ".parts"
_SHOWN_CHARACTERS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversionProgress:
    """How far a conversion is.

    Attributes:
        phase: `reading` brings the source's tensors into Hugging Face's names, `writing` writes the result. A
            conversion from safetensors only writes.
        done_bytes: Of this phase, so far.
        total_bytes: Of this phase.
        tensor: The latest one.
    """

    phase: Literal["reading", "writing"]
    done_bytes: int
    total_bytes: int
    tensor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertedModel:
    """A model that was converted.

    Attributes:
        path: Its folder.
        format: What it was made from.
        kind: What it is for.
        model_type: Its architecture.
        weight_bytes: What its weights take, on the disk and, but for the CPU, in memory.
        seconds: How long it took.
    """

    path: Path
    format: SourceFormat
    kind: Literal["chat", "embedding"]
    model_type: str
    weight_bytes: int
    seconds: float


OnProgress = Callable[[ConversionProgress], None]


def convert_model(
    source: Path,
    target: Path,
    *,
    quantize_bits: int | None = None,
    group_size: int = 64,
    dtype: Dtype | None = None,
    on_progress: OnProgress | None = None,
    worker: Worker | None = None,
) -> ConvertedModel:
    """Turn a model into a folder in MLX's format. Uses no network, and runs nothing that the files bring.

    Memory stays near that of the largest tensor, whatever the model's size.

    Args:
        source: A folder in the Hugging Face format (safetensors or PyTorch), a PyTorch checkpoint in one, or a GGUF
            file.
        target: The folder to make; there must be nothing by that name.
        quantize_bits: 4 or 8 to quantise a chat model's weights; `None` leaves them as they are. What GGUF has
            quantised is not quantised otherwise, it is unpacked.
        group_size: How many quantised weights share a scale: 32, 64 or 128.
        dtype: The type of what is not quantised. `None`: as stored; for quantised GGUF files float16, or bfloat16 for
            models that overflow that.
        on_progress: Told about every piece, in the calling thread.
        worker: The thread that MLX runs on; the process's own otherwise.

    Raises:
        ConversionError: The source is damaged or incomplete, or the target is there already. Nothing is left behind.
        UnsupportedFormatError: The source is of a kind that is not converted.
        UnsupportedArchitectureError: There is no code for the model.
        InsufficientDiskError: The result would not fit.
        InvalidRequestError: An option has an impossible value.
    """
    _check_options(quantize_bits, group_size, dtype)
    began = time.perf_counter()
    found = find_source(Path(source))
    gguf = read_gguf(found.files[0]) if found.format == "gguf" else None
    config = gguf_config(gguf) if gguf is not None else dict(found.config)
    kind = _kind(found, config, quantize_bits)
    target = Path(target).expanduser().absolute()
    with staged(target) as folder:
        task = _Task(found, folder, quantize_bits, group_size, dtype, on_progress or (lambda _: None))
        if kind == "embedding":
            task.convert_embedding()
        elif gguf is not None:
            task.convert_chat(task.stage_gguf(gguf, config), worker or get_worker())
        elif found.format == "pytorch":
            task.convert_chat(task.stage_pytorch(), worker or get_worker())
        else:
            task.convert_chat(found.folder, worker or get_worker())
        weight_bytes = _checked_bytes(folder, found)
    return ConvertedModel(
        path=target,
        format=found.format,
        kind=kind,
        model_type=str(config["model_type"]),
        weight_bytes=weight_bytes,
        seconds=time.perf_counter() - began,
    )


def _check_options(quantize_bits: int | None, group_size: int, dtype: str | None) -> None:
    if quantize_bits is not None and quantize_bits not in _BITS:
        raise InvalidRequestError(
            f"Weights cannot be quantised to {quantize_bits} bits here.", field="quantize_bits", hint="Choose 4 or 8."
        )
    if group_size not in _GROUP_SIZES:
        raise InvalidRequestError(
            f"Weights cannot be quantised in groups of {group_size}.", field="group_size", hint="Choose 32, 64 or 128."
        )
    if dtype is not None and dtype not in _DTYPES:
        raise InvalidRequestError(
            f"`{dtype}` is not a type of weights.", field="dtype", hint="Choose float16, bfloat16 or float32."
        )


def _kind(source: Source, config: dict[str, Any], quantize_bits: int | None) -> Literal["chat", "embedding"]:
    """What the model is for.

    Raises:
        UnsupportedArchitectureError: There is no code for it.
        InvalidRequestError: It cannot be quantised.
    """
    own = [file.relative_to(source.folder).as_posix() for file in companions(source.folder)]
    others = own if source.format != "gguf" else []
    support = describe_support(config, [*others, "model.safetensors"])
    if not support.is_supported or support.kind is None:
        raise UnsupportedArchitectureError(
            f"`{source.path}` cannot be run once it is converted. {support.reason}",
            model_path=str(source.path),
            model_type=str(config.get("model_type")),
            hint="Choose another model.",
        )
    if quantize_bits is not None and support.kind == "embedding":
        raise InvalidRequestError(
            "An embedding model is not quantised: its vectors would no longer be those of the original.",
            field="quantize_bits",
            hint="Leave it out.",
        )
    if quantize_bits is not None and (config.get("quantization") or config.get("quantization_config")):
        raise InvalidRequestError(
            f"`{source.path}` is quantised already; doing so twice would only lose more.",
            field="quantize_bits",
            hint="Leave it out, or start from the unquantised model.",
        )
    return support.kind


def _checked_bytes(folder: Path, source: Source) -> int:
    """What the weights of the result take; as the runtime reads it, so that the result is known to load."""
    place = folder / "0_Transformer" if not (folder / "config.json").is_file() else folder
    try:
        return read_folder(place).weight_bytes(as_float32=False)
    except ModelLoadError as error:
        raise ConversionError(error.message, path=str(source.path), hint=error.hint) from error


@dataclass(frozen=True, slots=True)
class _Task:
    """One conversion.

    Attributes:
        source: What is converted.
        folder: What becomes the result.
        bits: See `convert_model`; so for the next ones.
    """

    source: Source
    folder: Path
    bits: int | None
    group_size: int
    dtype: Dtype | None
    on_progress: OnProgress

    def stage_gguf(self, file: GGUFFile, config: dict[str, Any]) -> Path:
        """Write what a GGUF file holds as a folder in the Hugging Face format."""
        dtype = _DTYPES[self.dtype] if self.dtype else natural_dtype(file)
        parts = self._parts_folder()
        generation = {key: config[key] for key in ("bos_token_id", "eos_token_id") if config[key] is not None}
        _write_json(parts / "config.json", config)
        _write_json(parts / "generation_config.json", generation)
        write_tokenizer(file, parts, max_tokens=int(config["max_position_embeddings"]))
        self._write(parts, gguf_tensors(file, dtype), "reading", extra=self._result_bytes)
        return parts

    def stage_pytorch(self) -> Path:
        """Write what PyTorch checkpoints hold as a folder in the Hugging Face format."""
        parts = self._parts_folder()
        for file in companions(self.source.folder):
            _copy(file, parts / file.relative_to(self.source.folder))
        self._write(parts, _pytorch_tensors(self.source.files), "reading", extra=self._result_bytes)
        return parts

    def convert_chat(self, origin: Path, worker: Worker) -> None:
        """Write a folder in the Hugging Face format as mlx-lm would, and what goes along with it."""
        weights = MLXWeights(worker)
        try:
            self._check_origin(origin)
            tensors = self._mlx_tensors(weights, origin)
            self._write(self.folder, tensors, "writing")
        finally:
            weights.close()
        for file in companions(origin):
            if file.name != "config.json":
                _copy(file, self.folder / file.relative_to(origin))
        shutil.rmtree(self.folder / _PARTS, ignore_errors=True)

    def convert_embedding(self) -> None:
        """Write an embedding model's folders, each with its weights as safetensors."""
        for origin in dict.fromkeys([self.source.folder, *module_folders(self.source)]):
            place = self.folder / origin.relative_to(self.source.folder)
            place.mkdir(parents=True, exist_ok=True)
            for file in companions(origin):
                _copy(file, self.folder / file.relative_to(self.source.folder))
            tensors = self._embedding_tensors(origin)
            if tensors:
                dtype = _DTYPES[self.dtype] if self.dtype else None
                wanted = [cast(tensor, dtype) if dtype else tensor for tensor in tensors]
                self._write(place, wanted, "writing")

    def _embedding_tensors(self, folder: Path) -> list[Tensor]:
        if folder == self.source.folder and self.source.path.is_file():
            kind, files = self.source.format, self.source.files
        elif any(folder.glob("*.safetensors")) or any(folder.glob("*.bin")):
            kind, files = weight_files(folder)
        else:
            return []
        return (
            _pytorch_tensors(files) if kind == "pytorch" else [one for file in files for one in read_safetensors(file)]
        )

    def _parts_folder(self) -> Path:
        parts = self.folder / _PARTS
        parts.mkdir()
        return parts

    def _check_origin(self, origin: Path) -> None:
        try:
            read_folder(origin)
        except ModelLoadError as error:
            raise ConversionError(error.message, path=str(self.source.path), hint=error.hint) from error

    def _mlx_tensors(self, weights: MLXWeights, origin: Path) -> list[Tensor]:
        try:
            return weights.load(
                origin, self.folder / "config.json", dtype=self.dtype, bits=self.bits, group_size=self.group_size
            )
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())
            shown = reason if len(reason) <= _SHOWN_CHARACTERS else reason[:_SHOWN_CHARACTERS] + " …"
            raise ConversionError(
                f"`{self.source.path}` is not a whole model: {shown}",
                path=str(self.source.path),
                hint="Download the model again; its config.json and its weights must belong together.",
            ) from error

    def _result_bytes(self, tensors: Iterable[Tensor]) -> int:
        """About what the result will take beside what is written now."""
        if self.bits is None:
            width = BYTES_OF[_DTYPES[self.dtype]] if self.dtype else None
            return sum(
                one.elements * (width if width and one.dtype in FLOATS else BYTES_OF[one.dtype]) for one in tensors
            )
        # A scale and a bias of two bytes each for every group.
        return int(sum(one.elements for one in tensors) * (self.bits / 8 + 4 / self.group_size))

    def _write(
        self,
        folder: Path,
        tensors: list[Tensor],
        phase: Literal["reading", "writing"],
        *,
        extra: Callable[[Iterable[Tensor]], int] | None = None,
    ) -> None:
        total = sum(tensor.stored_bytes for tensor in tensors)
        check_disk(self.folder, total + (extra(tensors) if extra else 0))
        done = 0

        def on_bytes(name: str, size: int) -> None:
            nonlocal done
            done += size
            self.on_progress(ConversionProgress(phase=phase, done_bytes=done, total_bytes=total, tensor=name))

        origin = "mlx" if phase == "writing" else "pt"
        write_tensors(folder, tensors, metadata={"format": origin}, on_bytes=on_bytes)


def _pytorch_tensors(files: Iterable[Path]) -> list[Tensor]:
    found: dict[str, Tensor] = {}
    for file in files:
        for tensor in read_safetensors(file) if is_safetensors(file) else read_pytorch(file):
            if tensor.name in found:
                raise ConversionError(
                    f"`{file}` has the tensor `{tensor.name}`, which another file has too.",
                    path=str(file),
                    hint="Keep the files of one model only in the folder.",
                )
            found[tensor.name] = tensor
    return list(found.values())


def _copy(file: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, place)


def _write_json(file: Path, value: dict[str, Any]) -> None:
    file.write_text(json.dumps(value, indent=2, ensure_ascii=False), encoding="utf-8")
