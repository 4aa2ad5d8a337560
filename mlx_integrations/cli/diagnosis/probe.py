"""MLX, tried: what it sees, a few words from the demo model, one vector. A process of its own, because it may crash.

Run with `python -m mlx_integrations.cli.diagnosis.probe`; writes one JSON object a line to stdout, which `cli/trial.py`
reads.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from mlx_integrations.errors import MLXIntegrationsError
from mlx_integrations.manager.locate import DEMO_FOLDER, DEMO_MODEL
from mlx_integrations.manager.packaged import PACKAGED_MODELS, packaged_folder
from mlx_integrations.runtime.blas import preload_blas
from mlx_integrations.runtime.device import ask_mlx
from mlx_integrations.runtime.engine import Runtime
from mlx_integrations.settings import RuntimeSettings
from mlx_integrations.types import (
    ChatMessage,
    ChatRequest,
    ChatResult,
    EmbeddingOptions,
    EmbeddingResult,
    SamplingParams,
)

__all__ = ["main"]

_QUESTION: Final = "Who are you?"
_TOKENS: Final = 20
_TEXT: Final = "A short text for a short vector."
_IMPORT_SECONDS: Final = 20.0


def main() -> None:
    """Try one thing after the other, and tell of each as soon as it is known."""
    settings = RuntimeSettings(**json.loads(sys.argv[1])) if len(sys.argv) > 1 else RuntimeSettings()
    runtime = Runtime(settings)
    steps: dict[str, Callable[[], Mapping[str, Any]]] = {
        "machine": lambda: _machine(settings),
        "chat": lambda: _chat(runtime),
        "embedding": lambda: _embedding(runtime),
    }
    for name, step in steps.items():
        began = time.perf_counter()
        try:
            told = dict(step())
        except (MLXIntegrationsError, ImportError, OSError, RuntimeError, ValueError) as error:
            told = {"error": str(error) or type(error).__name__}
        sys.stdout.write(json.dumps({"step": name, "seconds": time.perf_counter() - began, **told}, default=str) + "\n")
        sys.stdout.flush()
    runtime.close()


def _machine(settings: RuntimeSettings) -> dict[str, Any]:
    blas = preload_blas(settings.blas_preload)
    machine = ask_mlx(blas_preload=settings.blas_preload)
    told = {"machine": asdict(machine), "blas": blas}
    return told if "mlx.core" in sys.modules else {**told, "import_error": _import_error()}


def _import_error() -> str:
    """Why MLX cannot be imported: once more, where the whole of its complaint can be read."""
    command = [sys.executable, "-P", "-c", "import mlx.core"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_IMPORT_SECONDS, check=False)
    lines = done.stderr.strip().splitlines()
    return lines[-1] if lines else "it cannot be imported"


def _chat(runtime: Runtime) -> dict[str, Any]:
    backend = runtime.chat(DEMO_FOLDER, model_id=DEMO_MODEL)
    request = ChatRequest(
        messages=(ChatMessage(role="user", content=_QUESTION),),
        sampling=SamplingParams(max_tokens=_TOKENS, temperature=0.0),
    )
    result = ChatResult.join(backend.stream(request))
    return {
        "text": result.text,
        "completion_tokens": result.finish.usage.completion_tokens,
        "tokens_per_second": result.finish.tokens_per_second,
    }


def _embedding(runtime: Runtime) -> dict[str, Any]:
    model = PACKAGED_MODELS[0]
    folder: Path | None = packaged_folder(model)
    if folder is None:
        return {"missing": model.name, "install": model.install_command}
    backend = runtime.embedding(folder, model_id=model.name)
    result = EmbeddingResult.join(backend.stream([_TEXT], EmbeddingOptions()))
    return {"model": model.name, "dimensions": int(result.vectors.shape[1]), "length": float((result.vectors**2).sum())}


if __name__ == "__main__":
    main()
