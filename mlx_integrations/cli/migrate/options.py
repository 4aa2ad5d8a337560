"""Options that several of the verbs have."""

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

__all__ = [
    "Address",
    "AsText",
    "Bulk",
    "Dimensions",
    "Index",
    "LongTexts",
    "Name",
    "RayAddress",
    "RayCpus",
    "RayGpus",
    "RayWorkers",
    "To",
    "ToKind",
    "ToName",
    "WorkDir",
]

Address: TypeAlias = Annotated[str, typer.Argument(metavar="STORE", help="The store's folder, or its file.")]
Bulk: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--bulk",
        help="STORE is a folder: all stores under it are meant; or a manifest, a file ending in .toml that lists them.",
    ),
]
Name: TypeAlias = Annotated[
    str | None, typer.Option("--name", help="Which of its indexes or collections, where it has several.")
]
WorkDir: TypeAlias = Annotated[
    Path | None,
    typer.Option("--work-dir", help="Where runs are kept; left out: `.mlxi-migrate` beside the store."),
]
Dimensions: TypeAlias = Annotated[
    int | None, typer.Option(min=1, help="Coordinates to keep, for models that were trained for it.")
]
LongTexts: TypeAlias = Annotated[
    Literal["truncate", "mean", "error"] | None,
    typer.Option(
        help="Texts longer than the model reads: embed their beginning and count them, average their parts, or stop. "
        "Left out: truncate."
    ),
]
Index: TypeAlias = Annotated[
    str | None, typer.Option(help="The kind of index to build, such as `Flat` or `HNSW32`; left out: the one it has.")
]
To: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--to", metavar="PLACE", help="Make a new store at this place instead; the one that is read stays as it is."
    ),
]
ToKind: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--to-kind",
        metavar="KIND",
        help="Of the new store: chroma, lancedb, langchain-faiss, langchain-in-memory, llama-index-simple, pgvector, "
        "qdrant, qdrant-server. Left out: told from the place, where it can be.",
    ),
]
ToName: TypeAlias = Annotated[
    str | None, typer.Option("--to-name", help="Of the new store's index, collection or table, where it has several.")
]
AsText: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--as-json",
        metavar="NAME",
        help="Metadata whose values become text for the new store, which could not hold them otherwise; can be given "
        "several times.",
    ),
]
RayAddress: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="Embed on a Ray cluster: `auto`, its address, or `local` for one on this machine. Needs the extra `ray`.",
    ),
]
RayWorkers: TypeAlias = Annotated[
    int, typer.Option("--ray-workers", min=1, help="Models that are loaded on the cluster, over all its machines.")
]
RayCpus: TypeAlias = Annotated[float, typer.Option("--ray-cpus", min=0, help="Cores of each of them.")]
RayGpus: TypeAlias = Annotated[
    float, typer.Option("--ray-gpus", min=0, help="GPUs of each of them; parts of one are fine.")
]
