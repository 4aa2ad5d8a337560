"""Milliseconds of imports, each in a fresh interpreter: the package, and ChatMLX above langchain-core's own."""

import statistics
import subprocess
import sys

from tests.benchmarks.common import machine

ROUNDS = 9
_TIMED = "import time; s = time.perf_counter(); {}; print((time.perf_counter() - s) * 1000)"
STATEMENTS = {
    "mlx_integrations": "import mlx_integrations",
    "langchain-core's chat models": "from langchain_core.language_models.chat_models import BaseChatModel",
    "ChatMLX": "from mlx_integrations.langchain import ChatMLX",
}


def _milliseconds(statement: str) -> float:
    done = subprocess.run([sys.executable, "-c", _TIMED.format(statement)], capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    """Print the figures."""
    print(machine())  # noqa: T201
    rows = [{name: _milliseconds(text) for name, text in STATEMENTS.items()} for _ in range(ROUNDS + 1)][1:]
    for name in STATEMENTS:
        print(f"import of {name}: {statistics.median(row[name] for row in rows):.0f} ms")  # noqa: T201
    above = statistics.median(row["ChatMLX"] - row["langchain-core's chat models"] for row in rows)
    print(f"ChatMLX above langchain-core: {above:.0f} ms")  # noqa: T201


if __name__ == "__main__":
    main()
