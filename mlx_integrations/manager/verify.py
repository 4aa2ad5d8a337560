"""Whether the files of a model are the ones they should be: read whole, compared, nothing changed."""

import json
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mlx_integrations.manager.model_files import INDEX_FILE, ModelFiles, list_files, missing_files, shards_of
from mlx_integrations.manager.part_file import blob_digest
from mlx_integrations.manager.records import FileProblem, Verification, VerificationMethod

__all__ = ["Expected", "verify_files"]

_MAX_HEADER_BYTES: Final = 100_000_000  # safetensors' own limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What is known about the files of a model.

    Attributes:
        blob_ids: Digests by file, as the cache names blobs.
        sizes: Sizes by file.
        wanted: Files that must be there.
        method: Where the digests come from.
    """

    blob_ids: Mapping[str, str]
    sizes: Mapping[str, int]
    wanted: tuple[str, ...] = ()
    method: VerificationMethod


def verify_files(
    folder: Path, expected: Expected, on_bytes: Callable[[str, int, int], None] = lambda file, done, total: None
) -> Verification:
    """Read every file of a model and say what is wrong with it.

    Args:
        folder: The model's folder.
        expected: What is known about its files.
        on_bytes: Told the file in hand, the bytes read so far, and how many there are.
    """
    files = list_files(folder)
    total = sum(files.sizes.values())
    done = 0

    current = ""

    def count(size: int) -> None:
        nonlocal done
        done += size
        on_bytes(current, done, total)

    problems: list[FileProblem] = []
    for current, size in sorted(files.sizes.items()):
        problems += _check_file(folder / current, current, size, expected, count)
    missing = missing_files(files, dict.fromkeys(expected.wanted))
    problems += [FileProblem(file=name, reason="It is missing.") for name in missing]
    problems += _missing_tensors(files, missing)
    return Verification(
        path=folder,
        checked_files=len(files.sizes),
        checked_bytes=done,
        problems=tuple(sorted(problems, key=lambda problem: problem.file)),
        method=expected.method,
    )


def read_header(file: Path) -> dict[str, Any]:
    """The header of a safetensors file (https://github.com/huggingface/safetensors#format).

    Raises:
        ValueError: The file is not whole; says why.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        prefix = stream.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else size
        if length > min(_MAX_HEADER_BYTES, size - 8):
            raise ValueError("It is shorter than its header says.")
        try:
            header = json.loads(stream.read(length))
            tensors = {name: tensor for name, tensor in header.items() if name != "__metadata__"}
            end = max((int(tensor["data_offsets"][1]) for tensor in tensors.values()), default=0)
        except (ValueError, AttributeError, KeyError, TypeError, IndexError, RecursionError) as exc:
            raise ValueError("Its header cannot be read.") from exc
    if end != size - 8 - length:
        raise ValueError(f"It should hold {end:,} bytes of tensors, and holds {size - 8 - length:,}.")
    return tensors


def _check_file(
    file: Path, name: str, size: int, expected: Expected, on_bytes: Callable[[int], None]
) -> Iterable[FileProblem]:
    """What is wrong with one file; at most one thing."""
    wanted_size = expected.sizes.get(name)
    if wanted_size is not None and wanted_size != size:
        on_bytes(size)
        reason = "It has another size."
        return [FileProblem(file=name, reason=reason, expected=f"{wanted_size:,} bytes", actual=f"{size:,} bytes")]
    blob_id = expected.blob_ids.get(name)
    try:
        if blob_id is not None:
            digest = blob_digest(file, blob_id, on_bytes)
            if digest == blob_id:
                return []
            kind = "SHA-256" if len(blob_id) == 64 else "SHA-1"
            return [FileProblem(file=name, reason=f"Its {kind} differs.", expected=blob_id, actual=digest)]
        on_bytes(size)
        if name.endswith(".safetensors"):
            read_header(file)
        elif name.endswith(".json"):
            json.loads(file.read_bytes())
    except ValueError as exc:
        reason = str(exc) if name.endswith(".safetensors") else "It is not valid JSON."
        return [FileProblem(file=name, reason=reason)]
    except OSError as exc:
        return [FileProblem(file=name, reason=f"It cannot be read: {exc.strerror}.")]
    return []


def _missing_tensors(files: ModelFiles, missing: Iterable[str]) -> list[FileProblem]:
    """Tensors that the index promises and the weight file does not have."""
    if INDEX_FILE not in files.sizes:
        return []
    promised: dict[str, set[str]] = {}
    for tensor, shard in shards_of(files.folder).items():
        promised.setdefault(shard, set()).add(tensor)
    problems = []
    for shard, tensors in promised.items():
        if shard in missing or shard not in files.sizes:
            continue
        try:
            absent = tensors - set(read_header(files.folder / shard))
        except (ValueError, OSError):  # reported for the file itself
            continue
        if absent:
            example = min(absent)
            reason = f"{len(absent)} of the tensors that {INDEX_FILE} puts there are not in it, such as `{example}`."
            problems.append(FileProblem(file=shard, reason=reason))
    return problems
