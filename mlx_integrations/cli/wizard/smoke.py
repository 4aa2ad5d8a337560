"""A model, tried: twenty tokens or one vector. A process of its own, because a model that is too large ends it.

Run with `python -m mlx_integrations.cli.wizard.smoke`; writes one JSON object to stdout. `cli/trial.py` reads it.
"""

import json
import sys
import time
from collections.abc import Mapping
from typing import Any, Final

from mlx_integrations import assembly
from mlx_integrations.errors import MLXIntegrationsError
from mlx_integrations.settings import Settings
from mlx_integrations.types import (
    ChatMessage,
    ChatRequest,
    ChatResult,
    EmbeddingOptions,
    EmbeddingResult,
    SamplingParams,
)

__all__ = ["main"]

_TOKENS: Final = 20
_QUESTION: Final = "Say hello in one short sentence."
_TEXT: Final = "The library opens at nine."


def main() -> None:
    """Try one model, and tell how that went."""
    options = json.loads(sys.argv[1])
    assembly.use_settings(Settings(**options["overrides"]))
    began = time.perf_counter()
    try:
        told = dict((_chat if options["kind"] == "chat" else _embedding)(options["model"]))
    except MLXIntegrationsError as error:
        told = {"error": error.message, "hint": error.hint}
    seconds = time.perf_counter() - began
    # Text that only looks like text, such as half of a pair of surrogates, has to come through as well.
    sys.stdout.write(json.dumps({"step": "smoke", "seconds": seconds, **told}) + "\n")


def _chat(model: str) -> Mapping[str, Any]:
    request = ChatRequest(
        messages=(ChatMessage(role="user", content=_QUESTION),), sampling=SamplingParams(max_tokens=_TOKENS)
    )
    result = ChatResult.join(assembly.chat_backend(model).stream(request))
    return {
        "text": result.reasoning + result.text,
        "tokens": result.finish.usage.completion_tokens,
        "tokens_per_second": result.finish.tokens_per_second,
    }


def _embedding(model: str) -> Mapping[str, Any]:
    result = EmbeddingResult.join(assembly.embedding_backend(model).stream([_TEXT], EmbeddingOptions()))
    length = float((result.vectors**2).sum())
    return {"dimensions": int(result.vectors.shape[1]), "is_usable": 0.0 < length < float("inf")}


if __name__ == "__main__":
    main()
