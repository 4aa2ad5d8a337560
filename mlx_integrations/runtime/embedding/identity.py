"""Which files a model consists of, as a short text: the commit of its repository, or a digest of the files."""

import hashlib
from pathlib import Path

__all__ = ["revision_of"]

_SAMPLES = 16
_SAMPLE_BYTES = 65_536
_COMMIT_DIGITS = 40
_PARTS = ("*.json", "*.safetensors", "*/*.json", "*/*.safetensors", "*.txt", "*.model")


def revision_of(folder: Path) -> str:
    """The revision of a model folder.

    Of a snapshot in the Hugging Face cache it is the commit
    (https://huggingface.co/docs/huggingface_hub/guides/manage-cache). Of any other folder it is `files:` and a digest
    of its configuration, its tokenizer and 16 samples of 64 KiB from each file of weights: other weights give another
    revision, without reading gigabytes.
    """
    is_snapshot = folder.parent.name == "snapshots" and len(folder.name) == _COMMIT_DIGITS
    if is_snapshot and set(folder.name) <= set("0123456789abcdef"):
        return folder.name
    digest = hashlib.sha256()
    for file in sorted({file for pattern in _PARTS for file in folder.glob(pattern) if file.is_file()}):
        size = file.stat().st_size
        digest.update(f"{file.relative_to(folder).as_posix()}:{size}\n".encode())
        with file.open("rb") as stream:
            for sample in range(_SAMPLES):
                stream.seek(max(size - _SAMPLE_BYTES, 0) * sample // (_SAMPLES - 1))
                digest.update(stream.read(_SAMPLE_BYTES))
                if size <= _SAMPLE_BYTES:
                    break
    return f"files:{digest.hexdigest()[:16]}"
