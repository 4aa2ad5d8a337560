"""Which files of a repository a model needs here. Pure.

Repositories often hold the same weights several times: safetensors beside PyTorch's pickles, ONNX, TensorFlow, GGUF.
What is loaded here is safetensors, so the copies stay where they are.
"""

import fnmatch
import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

__all__ = ["choose_files", "is_weight_file"]

# What mlx-lm loads (`DEFAULT_ALLOW_PATTERNS` in mlx_lm/utils.py), further tokenizers, and the model's terms.
_SIDE_FILES = (
    "*.json",
    "*.jsonl",
    "*.jinja",
    "*.tiktoken",
    "*.txt",
    "*.py",
    "*.spm",
    "tokenizer*.model",
    "spiece.model",
    "sentencepiece*.model",
    "README.md",
    "LICENSE*",
    "NOTICE*",
)
_NOT_NEEDED = ("flax_*", "tf_*", "*.index.fp32.json", "pytorch_model*.index.json")
# Folders that sentence-transformers' modules.json names, and the one of transformers for further chat templates.
_MODULE_FOLDER = re.compile(r"\d+_\w+|additional_chat_templates")
_PICKLES = ("*.bin", "*.pt", "*.pth")
_NOT_WEIGHTS = ("training_args.bin", "optimizer.*", "scheduler.*", "*arguments.bin")


def choose_files(paths: Iterable[str], *, include: Sequence[str] = (), all_files: bool = False) -> tuple[str, ...]:
    """The files to download, in the order of the repository.

    Args:
        paths: Every file of the repository.
        include: Patterns of further files, such as `*Q4_0.gguf`.
        all_files: Take them all.

    Returns:
        Configuration, tokenizer, chat template, terms, the modules of sentence-transformers, and the safetensors; in a
        repository without safetensors, the PyTorch files that could be converted.
    """
    known = list(paths)
    if all_files:
        return tuple(known)
    weights = _weights(known)
    return tuple(
        path
        for path in known
        if path in weights or _is_side_file(path) or any(fnmatch.fnmatchcase(path, pattern) for pattern in include)
    )


def is_weight_file(path: str) -> bool:
    """Whether a file holds weights that are loaded into memory."""
    name = PurePosixPath(path).name
    return name.endswith(".safetensors") or (_matches(name, _PICKLES) and not _matches(name, _NOT_WEIGHTS))


def _weights(paths: Sequence[str]) -> set[str]:
    """The weight files: `model*.safetensors` where there are some, or else whatever comes nearest."""
    near = [path for path in paths if _is_near(path)]
    safetensors = [path for path in near if path.endswith(".safetensors")]
    modules = [path for path in safetensors if "/" in path]
    top = [path for path in safetensors if "/" not in path]
    chosen = [path for path in top if path.startswith("model")] or top
    if chosen or modules:
        return {*chosen, *modules}
    return {path for path in near if is_weight_file(path)}


def _is_side_file(path: str) -> bool:
    name = PurePosixPath(path).name
    return _is_near(path) and _matches(name, _SIDE_FILES) and not _matches(name, _NOT_NEEDED)


def _is_near(path: str) -> bool:
    """Whether a file lies at the top, or in the folder of a module, and is not hidden."""
    parts = PurePosixPath(path).parts
    return not parts[-1].startswith(".") and (
        len(parts) == 1 or (len(parts) == 2 and bool(_MODULE_FOLDER.fullmatch(parts[0])))
    )


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
