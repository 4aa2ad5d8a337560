"""Which format a model is in, told from the content of its files, and what to do with it.

A folder may hold a model in several formats. The one that costs least to use counts: safetensors, then PyTorch, then
GGUF; ONNX and Core ML are programs made from a model and cannot be turned back into one.
"""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from mlx_integrations.errors import ConversionError, ModelNotFoundError, UnsupportedFormatError
from mlx_integrations.manager.file_kinds import FileKind, LookedAt, look_at
from mlx_integrations.registry import ModelRegistry

__all__ = ["DetectedFormat", "FormatName", "detect_format"]

FormatName = Literal["mlx", "safetensors", "gguf", "pytorch", "coreml", "onnx", "unknown"]

_ORDER: Final[tuple[FileKind, ...]] = ("safetensors", "pytorch", "gguf", "onnx", "coreml")
_LABELS: Final = {
    "mlx": "an MLX model",
    "safetensors": "safetensors weights",
    "gguf": "GGUF",
    "pytorch": "a PyTorch checkpoint",
    "coreml": "a Core ML model",
    "onnx": "an ONNX model",
    "unknown": "no model of a known format",
}
_SUFFIXES: Final = {
    "safetensors": (".safetensors",),
    "pytorch": (".bin", ".pt", ".pth", ".ckpt"),
    "gguf": (".gguf",),
    "onnx": (".onnx",),
    "coreml": (".mlmodel", ".mlpackage", ".zip"),
}
# Never weights, and there are many of them.
_TEXTS: Final = frozenset({".json", ".txt", ".md", ".py", ".jinja", ".model", ".tiktoken", ".jsonl", ".yaml", ".csv"})
_NOT_WEIGHTS: Final = frozenset(
    {"training_args.bin", "optimizer.bin", "optimizer.pt", "scheduler.bin", "scheduler.pt", "rng_state.pth"}
)
_MAX_FILES = 1000
_SHOWN = 4
_BASE_MODEL = re.compile(r"^base_model:\s*(?:\n\s*-\s*)?[\"']?([\w.-]+/[\w.-]+)", re.MULTILINE)
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
_FRONT_MATTER_CHARACTERS = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectedFormat:
    """What a file or folder is.

    Attributes:
        path: What was looked at.
        name: The format; `mlx` if the runtime can load it as it is and it was made for MLX.
        files: The files of that format; for `unknown` none.
        details: What else is worth knowing, a sentence each: other formats, misleading names, how it is quantised.
        damage: What is wrong with the files; empty if nothing was seen.
        base_model: The repository that it was made from, if its files say.
        advice: What to do with it, in one or two sentences.
    """

    path: Path
    name: FormatName
    files: tuple[Path, ...] = ()
    details: tuple[str, ...] = ()
    damage: str = ""
    base_model: str | None = None
    advice: str

    @property
    def is_convertible(self) -> bool:
        """Whether it can be turned into an MLX folder here, or is one."""
        return self.name in ("mlx", "safetensors", "pytorch", "gguf") and not self.damage

    def check_convertible(self) -> None:
        """Refuse what cannot be converted.

        Raises:
            UnsupportedFormatError: It is of another format.
            ConversionError: It is damaged or incomplete.
        """
        if self.damage:
            raise ConversionError(
                f"`{self.path}` is {_LABELS[self.name]}, but {self.damage}.", path=str(self.path), hint=self.advice
            )
        if not self.is_convertible:
            found = f" {' '.join(self.details)}" if self.name == "unknown" and self.details else ""
            raise UnsupportedFormatError(
                f"`{self.path}` is {_LABELS[self.name]}.{found}",
                path=str(self.path),
                format_name=self.name,
                hint=self.advice,
            )


def detect_format(path: Path, *, registry: ModelRegistry | None = None) -> DetectedFormat:
    """Look at a file or folder and tell which format the model in it is in.

    Args:
        path: A file, or the folder of a model.
        registry: Knows shorter names for what to pull instead; the catalogue in the package otherwise.

    Raises:
        ModelNotFoundError: There is nothing.
    """
    place = path.expanduser()
    if not place.exists():
        raise ModelNotFoundError(
            f"There is no `{path}`.", model=str(path), hint="Give a file or folder on this machine."
        )
    folder = place if place.is_dir() else place.parent
    config = _config(folder)
    looked = {place: look_at(place)} if place.is_file() else _looked_at(place)
    return _described(place, folder, config, looked, _base_model(folder, config), registry)


def _described(
    place: Path,
    folder: Path,
    config: Mapping[str, Any],
    looked: Mapping[Path, LookedAt],
    base_model: str | None,
    registry: ModelRegistry | None,
) -> DetectedFormat:
    """Choose the format that counts, and say what goes with it."""
    kind = _chosen(looked)
    if kind is None:
        details = tuple(f"`{file.name}` is {found.what}." for file, found in list(looked.items())[:_SHOWN])
        return DetectedFormat(
            path=place, name="unknown", details=details, base_model=base_model, advice=_unknown_advice(looked)
        )
    files = tuple(file for file, found in looked.items() if found.kind == kind)
    damage = _damage([(file, looked[file]) for file in files]) or _missing(folder, files)
    name: FormatName = kind  # type: ignore[assignment]  # `other` was never chosen
    if kind == "safetensors" and config and _is_mlx(config, [looked[file] for file in files]):
        name = "mlx"
    details = (*_quantization(config), *_misnamed(looked), *_beside(looked, kind))
    advice = _advice(name, place, files, config, base_model, registry)
    if damage:
        advice = "Download it again, whole."
    return DetectedFormat(
        path=place, name=name, files=files, details=details, damage=damage, base_model=base_model, advice=advice
    )


def _looked_at(folder: Path) -> dict[Path, LookedAt]:
    """The files of a folder that may be models, and those of the folders in it, where Core ML's are one each."""
    if _is_coreml_folder(folder):
        return {folder: LookedAt(kind="coreml", what="a Core ML model")}
    found: dict[Path, LookedAt] = {}
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            found |= _looked_at_inner(entry)
        elif _may_be_weights(entry):
            found[entry] = look_at(entry)
        if len(found) >= _MAX_FILES:
            break
    return found


def _looked_at_inner(folder: Path) -> dict[Path, LookedAt]:
    """Other formats usually lie one folder down; weights of this one's format there are parts of the model."""
    if _is_coreml_folder(folder):
        return {folder: LookedAt(kind="coreml", what="a Core ML model")}
    files = [entry for entry in sorted(folder.iterdir()) if entry.is_dir() or _may_be_weights(entry)]
    found = {
        file: LookedAt(kind="coreml", what="a Core ML model") if file.is_dir() else look_at(file)
        for file in files[:_MAX_FILES]
        if file.is_file() or _is_coreml_folder(file)
    }
    if folder.name == "0_Transformer":
        return found
    return {file: one for file, one in found.items() if one.kind in ("onnx", "coreml")}


def _is_coreml_folder(folder: Path) -> bool:
    """A package (`.mlpackage`), or a model compiled for one device (`.mlmodelc`)."""
    if (folder / "coremldata.bin").is_file():
        return True
    try:
        manifest = json.loads((folder / "Manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and "rootModelIdentifier" in manifest


def _may_be_weights(file: Path) -> bool:
    return file.is_file() and file.suffix.lower() not in _TEXTS and file.name not in _NOT_WEIGHTS


def _chosen(looked: Mapping[Path, LookedAt]) -> FileKind | None:
    """The format that counts: whole files before damaged ones."""
    whole = {found.kind for found in looked.values() if not found.damage}
    every = {found.kind for found in looked.values()}
    for kinds in (whole.intersection(_ORDER[:3]), every.intersection(_ORDER[:3]), every):
        for kind in _ORDER:
            if kind in kinds:
                return kind
    return None


def _damage(looked: Sequence[tuple[Path, LookedAt]]) -> str:
    return next((f"`{file.name}` is damaged: {found.damage}" for file, found in looked if found.damage), "")


def _missing(folder: Path, files: Sequence[Path]) -> str:
    """Which file of several is not there, by the index that lists them."""
    for name in ("model.safetensors.index.json", "pytorch_model.bin.index.json"):
        places = _json(folder / name).get("weight_map")
        names = {str(value) for value in places.values()} if isinstance(places, dict) else set()
        here = {file.name for file in files}
        if names & here and not names <= here:
            return f"`{min(names - here)}` is missing"
    return ""


def _is_mlx(config: Mapping[str, Any], looked: Sequence[LookedAt]) -> bool:
    if isinstance(config.get("quantization"), Mapping):
        return True
    return all(found.metadata.get("format") == "mlx" for found in looked)


def _quantization(config: Mapping[str, Any]) -> tuple[str, ...]:
    found = config.get("quantization") or config.get("quantization_config")
    if not isinstance(found, Mapping) or not found.get("bits"):
        return ()
    groups = f" in groups of {found['group_size']}" if found.get("group_size") else ""
    return (f"Its weights are quantised to {found['bits']} bits{groups}.",)


def _misnamed(looked: Mapping[Path, LookedAt]) -> tuple[str, ...]:
    """Files whose names say something else than their bytes."""
    wrong: list[str] = []
    for file, found in looked.items():
        claimed = next((kind for kind, suffixes in _SUFFIXES.items() if file.suffix.lower() in suffixes), None)
        if file.is_file() and claimed is not None and claimed != found.kind:
            wrong.append(f"`{file.name}` is {found.what}, whatever its name says.")
    return tuple(wrong[:_SHOWN])


def _beside(looked: Mapping[Path, LookedAt], kind: FileKind) -> tuple[str, ...]:
    """Models in other formats, which do not count."""
    others = {found.kind for found in looked.values()} - {kind, "other"}
    return tuple(f"It has {_LABELS[other]} as well, which is not used." for other in _ORDER if other in others)


def _advice(
    name: FormatName,
    place: Path,
    files: Sequence[Path],
    config: Mapping[str, Any],
    base_model: str | None,
    registry: ModelRegistry | None,
) -> str:
    """What to do with it."""
    folder = place if place.is_dir() else place.parent
    if name in ("onnx", "coreml"):
        runs_on = "ONNX Runtime" if name == "onnx" else "Apple's Core ML"
        return f"It is made for {runs_on} and cannot be turned into an MLX model. {_instead(base_model, registry)}"
    if name == "gguf":
        if len(files) > 1 and not re.search(r"-\d{5}-of-\d{5}\.gguf$", files[0].name):
            names = ", ".join(f"`{file.name}`" for file in files[:_SHOWN])
            return f"Convert one of its files, {names}: mlxi models import {shlex.quote(str(files[0]))}"
        return f"Convert it: mlxi models import {shlex.quote(str(files[0]))}"
    if not config:
        return f"Weights alone are not a model: put config.json and tokenizer.json into `{folder}` as well."
    if name == "pytorch":
        return f"Convert it: mlxi models import {shlex.quote(str(place))}"
    usage = "MLXEmbeddings" if (folder / "modules.json").is_file() else "ChatMLX"
    use = f'Use it as it is: {usage}(model="{folder}")'
    if name == "mlx" or usage == "MLXEmbeddings":
        return f"{use}."
    return f"{use}; or make it smaller: mlxi models import {shlex.quote(str(place))} --bits 4"


def _instead(base_model: str | None, registry: ModelRegistry | None) -> str:
    if base_model is None:
        return "Pull the model that it was made from instead: mlxi models search NAME finds it."
    registry = registry or ModelRegistry.embedded()
    entry = registry.get(base_model)
    ids = (entry.id,) if entry is not None else registry.suggest(base_model.rpartition("/")[2])
    if ids:
        return f"Pull the model that it was made from instead: mlxi models pull {ids[0]} (or {base_model})"
    return f"Pull the model that it was made from instead: mlxi models pull {base_model}"


def _unknown_advice(looked: Mapping[Path, LookedAt]) -> str:
    kinds = " ".join(found.what for found in looked.values())
    if "Git LFS" in kinds:
        return "Fetch the files themselves: git lfs pull"
    if "web page" in kinds:
        return "Log in where it comes from, accept the model's terms there, and download it again."
    if "TensorFlow" in kinds or "NumPy" in kinds:
        return "Take the model's safetensors files, or its PyTorch ones, instead."
    return "Give the folder that holds config.json and the weights (*.safetensors or *.bin), or a GGUF file."


def _base_model(folder: Path, config: Mapping[str, Any]) -> str | None:
    """The repository that a model was made from, by its card or its configuration."""
    for place in (folder, folder.parent):
        try:
            card = (place / "README.md").read_text(encoding="utf-8", errors="replace")[:_FRONT_MATTER_CHARACTERS]
        except OSError:
            continue
        found = _BASE_MODEL.search(card.partition("\n---")[0] if card.startswith("---") else "")
        if found:
            return found[1]
    name = config.get("_name_or_path")
    return name if isinstance(name, str) and _REPOSITORY.fullmatch(name) else None


def _config(folder: Path) -> dict[str, Any]:
    """config.json of the folder, or of the transformer in it."""
    return _json(folder / "config.json") or _json(folder / "0_Transformer" / "config.json")


def _json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
