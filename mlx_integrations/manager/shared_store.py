"""Blobs that repositories of one cache share: huggingface_hub keeps them once, in `blobs/` of the whole cache.

`models--org--name/blobs/<id>` is then a link to `<cache>/blobs/<xx>/<hash>`, beside which `<hash>.refs` lists all such
links. See `utils/_shared_blobs.py` in huggingface_hub 2.4.
"""

import os
import re
from collections.abc import Collection
from pathlib import Path

__all__ = ["freed_shared_bytes", "shared_target"]

_HASH = re.compile(r"[0-9a-f]{64}")


def shared_target(blob: Path, cache_dir: Path) -> Path | None:
    """The shared file that a repository's blob is a link to; `None` if it is no such link."""
    try:
        target = Path(os.path.normpath(blob.parent / blob.readlink()))
    except OSError:
        return None
    is_in_store = target.parent.parent == Path(os.path.normpath(cache_dir / "blobs"))
    return target if is_in_store and _HASH.fullmatch(target.name) else None


def freed_shared_bytes(blobs: Collection[Path], cache_dir: Path) -> int:
    """What removing blobs frees in the shared store: files that no other repository links to."""
    targets = {target for blob in blobs if (target := shared_target(blob, cache_dir)) is not None}
    removed = {Path(os.path.normpath(blob)) for blob in blobs}
    return sum(
        target.stat().st_size
        for target in targets
        if target.is_file() and (links := _links_to(target, cache_dir)) and links <= removed
    )


def _links_to(target: Path, cache_dir: Path) -> set[Path]:
    """The links that lead to a shared file, as far as they still do."""
    try:
        lines = target.with_name(f"{target.name}.refs").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return set()
    links = {Path(os.path.normpath(cache_dir / line)) for line in lines if line}
    return {link for link in links if shared_target(link, cache_dir) == target}
