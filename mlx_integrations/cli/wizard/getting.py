"""Getting what was chosen: the downloads, and then the proof that it works."""

import contextlib
import sys
import time
from collections.abc import Sequence
from typing import Final

from mlx_integrations.cli.menus import LeftError, read_yes, tell
from mlx_integrations.cli.models.pulling import download
from mlx_integrations.cli.parts import Invocation
from mlx_integrations.cli.text import disk
from mlx_integrations.cli.wizard.choosing import Pick
from mlx_integrations.errors import GenerationError, InsufficientDiskError
from mlx_integrations.types import (
    ChatMessage,
    ChatRequest,
    EmbeddingOptions,
    EmbeddingResult,
    Finish,
    SamplingParams,
)

__all__ = ["get", "try_out"]

_TOKENS: Final = 20
_QUESTION: Final = "Say hello in one short sentence."
_TEXT: Final = "The library opens at nine."


def get(invocation: Invocation, picks: Sequence[Pick], *, is_asked: bool, force: bool) -> None:
    """Download what is missing, one model after the other, each behind one bar.

    Args:
        invocation: Downloads.
        picks: The models.
        is_asked: Whether the person has to agree first.
        force: Whether a model that cannot be run here is downloaded all the same.

    Raises:
        LeftError: The person did not agree.
        InsufficientDiskError: Together they do not fit on the disk.
    """
    plans = [pick.plan for pick in picks if pick.plan is not None]
    missing = sum(plan.missing_bytes for plan in plans)
    if not plans:
        return
    free = min(plan.free_disk_bytes for plan in plans)
    if missing > free:
        raise InsufficientDiskError(
            f"The downloads need {disk(missing)}; {disk(free)} are free.",
            needed_bytes=missing,
            free_bytes=free,
            hint="Choose a smaller model, or make room: mlxi models list --sort size shows what takes most.",
        )
    tell()
    if missing and is_asked and not read_yes(f"Download {disk(missing)}? Ctrl-C stops it, and keeps what arrived."):
        raise LeftError
    for plan in plans:
        if plan.missing_bytes:
            tell(f"Downloading {plan.repo_id}", style="bold")
        download(invocation, plan, force=force)


def try_out(invocation: Invocation, pick: Pick) -> None:
    """Let a model do what it is for, a little: twenty tokens, or one vector.

    Raises:
        MLXIntegrationsError: It cannot.
    """
    tell(f"\nTrying {pick.name}", style="bold")
    began = time.perf_counter()
    if pick.kind == "chat":
        finish = _say_hello(invocation, pick.name)
        seconds = time.perf_counter() - began
        speed = f", {finish.tokens_per_second:.0f} a second" if finish.tokens_per_second else ""
        tell(f"{finish.usage.completion_tokens} tokens{speed}; {seconds:.1f} s with loading.", style="green")
    else:
        backend = invocation.embedding_backend(pick.name)
        result = EmbeddingResult.join(backend.stream([_TEXT], EmbeddingOptions()))
        seconds = time.perf_counter() - began
        tell(f"A vector of {result.vectors.shape[1]} dimensions; {seconds:.1f} s with loading.", style="green")


def _say_hello(invocation: Invocation, model: str) -> Finish:
    request = ChatRequest(
        messages=(ChatMessage(role="user", content=_QUESTION),), sampling=SamplingParams(max_tokens=_TOKENS)
    )
    finish = None
    with contextlib.closing(invocation.chat_backend(model).stream(request)) as chunks:
        for chunk in chunks:
            sys.stderr.write(chunk.reasoning + chunk.text)
            sys.stderr.flush()
            finish = chunk.finish or finish
    sys.stderr.write("\n")
    if finish is None or not finish.usage.completion_tokens:
        raise GenerationError(f"`{model}` answered nothing.")
    return finish
