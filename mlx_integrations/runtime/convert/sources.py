"""What is to be converted: which files have the weights, what describes them, and what goes along unchanged."""

import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from mlx_integrations.errors import ConversionError, UnsupportedFormatError

__all__ = ["Source", "SourceFormat", "companions", "find_source", "module_folders", "read_json", "weight_files"]

SourceFormat = Literal["safetensors", "pytorch", "gguf"]

_PYTORCH_INDEX = "pytorch_model.bin.index.json"
_SAFETENSORS_INDEX = "model.safetensors.index.json"
_PYTORCH_PATTERNS = ("*.bin", "*.pt", "*.pth")
# What a training leaves beside the weights.
_NOT_WEIGHTS = frozenset({"training_args.bin", "optimizer.bin", "optimizer.pt", "scheduler.bin", "scheduler.pt"})
_RANDOM_STATE = re.compile(r"rng_state.*|random_states.*")
_GGUF_LATER_PART = re.compile(r"-(?!00001)\d{5}-of-\d{5}\.gguf$")
_COMPANIONS = (
    "*.json",
    "*.txt",
    "*.model",
    "*.tiktoken",
    "*.jinja",
    "additional_chat_templates/*.jinja",
    "LICENSE*",
    "NOTICE*",
    "README.md",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A model to convert.

    Attributes:
        path: What the user named.
        folder: Where its config.json is.
        format: What its weights are.
        files: The files that have them.
        config: Its config.json; empty for GGUF, which has its own settings.
    """

    path: Path
    folder: Path
    format: SourceFormat
    files: tuple[Path, ...]
    config: Mapping[str, Any]


def find_source(path: Path) -> Source:
    """Look at a file or folder.

    Raises:
        ConversionError: It is not there, or something of it is missing or damaged.
        UnsupportedFormatError: It has no weights of a kind that is converted.
    """
    source = path.expanduser().resolve()
    if not source.exists():
        raise ConversionError(f"There is no `{path}`.", path=str(path), hint="Give a file or a folder that is there.")
    folder = source.parent if source.is_file() else source
    if source.is_file():
        kind, files = _file_format(source)
    else:
        kind, files = weight_files(_transformer_folder(source))
    if kind == "gguf":
        return Source(path=source, folder=folder, format=kind, files=files, config={})
    config = read_json(_transformer_folder(folder) / "config.json", source)
    if not isinstance(config.get("model_type"), str):
        raise ConversionError(
            f"`{folder / 'config.json'}` names no `model_type`.", path=str(source), hint="Download the file again."
        )
    return Source(path=source, folder=folder, format=kind, files=files, config=config)


def weight_files(folder: Path) -> tuple[SourceFormat, tuple[Path, ...]]:
    """The files of a folder that have its weights; safetensors if there are several formats.

    Raises:
        ConversionError: One that an index names is missing, or it is not clear which ones to take.
        UnsupportedFormatError: There are none.
    """
    safetensors = _indexed(folder, _SAFETENSORS_INDEX) or tuple(sorted(folder.glob("model*.safetensors")))
    if safetensors:
        return "safetensors", safetensors
    pytorch = _indexed(folder, _PYTORCH_INDEX) or _pytorch_files(folder)
    if pytorch:
        return "pytorch", pytorch
    gguf = tuple(file for file in sorted(folder.glob("*.gguf")) if not _GGUF_LATER_PART.search(file.name))
    if len(gguf) > 1:
        raise _ambiguous(folder, gguf)
    if gguf:
        return "gguf", gguf
    raise UnsupportedFormatError(
        f"`{folder}` has no weights that can be converted: neither safetensors nor PyTorch nor GGUF files.",
        path=str(folder),
        format_name="unknown",
        hint="Give the folder that holds config.json and the weights, or a GGUF file.",
    )


def module_folders(source: Source) -> list[Path]:
    """The folders that a sentence-transformers model's modules.json names, besides the model's own."""
    file = source.folder / "modules.json"
    if not file.is_file():
        return []
    rows = _parsed(file, source.path)
    found: list[Path] = []
    for row in rows if isinstance(rows, list) else []:
        inner = PurePosixPath(str(row.get("path") or "")) if isinstance(row, dict) else PurePosixPath()
        if inner.is_absolute() or ".." in inner.parts:
            raise ConversionError(
                f"`{file}` names a folder outside the model: `{inner}`.",
                path=str(source.path),
                hint="Do not use this model.",
            )
        folder = source.folder.joinpath(*inner.parts)
        if inner.parts and folder.is_dir():
            found.append(folder)
    return found


def companions(folder: Path) -> Iterator[Path]:
    """Files that go along as they are: configuration, tokenizer, licence. No program code."""
    for pattern in _COMPANIONS:
        for file in sorted(folder.glob(pattern)):
            if file.is_file() and not file.name.endswith(".index.json"):
                yield file


def read_json(file: Path, source: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ConversionError: It is missing or damaged.
    """
    if not file.is_file():
        raise ConversionError(
            f"`{file.parent}` has no {file.name}.",
            path=str(source),
            hint="Weights alone are not a model: put them into the folder with its config.json and tokenizer.json.",
        )
    value = _parsed(file, source)
    if not isinstance(value, dict):
        raise ConversionError(
            f"`{file}` does not hold a JSON object.", path=str(source), hint="Download the file again."
        )
    return value


def _parsed(file: Path, source: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConversionError(
            f"`{file}` cannot be read: {error}.", path=str(source), hint="Download the file again."
        ) from error


def _transformer_folder(folder: Path) -> Path:
    """Where a model's configuration and weights are: some sentence-transformers models have them one folder down."""
    inner = folder / "0_Transformer"
    return folder if (folder / "config.json").is_file() or not inner.is_dir() else inner


def _file_format(file: Path) -> tuple[SourceFormat, tuple[Path, ...]]:
    with file.open("rb") as stream:
        first = stream.read(16)
    if first.startswith(b"GGUF"):
        return "gguf", (file,)
    # A pickle of protocol 2 or newer; safetensors begins with the length of its JSON.
    if zipfile.is_zipfile(file) or first[:1] == b"\x80":
        return "pytorch", (file,)
    if first[8:9] == b"{":
        if not file.match("model*.safetensors"):
            raise ConversionError(
                f"`{file}` is not called model*.safetensors, as every program expects that loads it.",
                path=str(file),
                hint="Rename it, and put config.json and tokenizer.json beside it.",
            )
        return "safetensors", (file,)
    raise UnsupportedFormatError(
        f"`{file}` is neither safetensors nor PyTorch nor GGUF.",
        path=str(file),
        format_name="unknown",
        hint="Give a file with a model's weights, or the folder they are in.",
    )


def _indexed(folder: Path, name: str) -> tuple[Path, ...]:
    """The files that an index names; none if there is no index."""
    index = folder / name
    if not index.is_file():
        return ()
    places = read_json(index, folder).get("weight_map")
    names = sorted({str(value) for value in places.values()}) if isinstance(places, dict) else []
    if not names or any(PurePosixPath(one).name != one for one in names):
        raise ConversionError(
            f"`{index}` does not say where tensors are.", path=str(folder), hint="Download the file again."
        )
    missing = [one for one in names if not (folder / one).is_file()]
    if missing:
        raise ConversionError(
            f"`{folder}` lacks {len(missing)} of the {len(names)} files that {name} names, first `{missing[0]}`.",
            path=str(folder),
            hint="Download the model again, whole.",
        )
    return tuple(folder / one for one in names)


def _pytorch_files(folder: Path) -> tuple[Path, ...]:
    whole = folder / "pytorch_model.bin"
    if whole.is_file():
        return (whole,)
    found = [file for pattern in _PYTORCH_PATTERNS for file in sorted(folder.glob(pattern))]
    files = tuple(file for file in found if file.name not in _NOT_WEIGHTS and not _RANDOM_STATE.match(file.name))
    if len(files) > 1 and not all(re.search(r"-\d{5}-of-\d{5}\.", file.name) for file in files):
        raise _ambiguous(folder, files)
    return files


def _ambiguous(folder: Path, files: tuple[Path, ...]) -> ConversionError:
    listed = ", ".join(f"`{file.name}`" for file in files[:6])
    return ConversionError(
        f"`{folder}` has {len(files)} files that may be the model: {listed}.",
        path=str(folder),
        hint=f"Give one of them, such as `{files[0]}`.",
    )
