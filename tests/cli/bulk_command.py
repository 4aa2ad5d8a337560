"""`mlxi migrate` with an embedding model that takes no download: `python -m tests.cli.bulk_command VERB ...`.

`MLXI_TEST_PAUSE` is how long it takes for a batch, in seconds; `MLXI_TEST_LOG` a file for the texts that it embeds.
"""

import json
import os
import sys
import time
from collections.abc import Generator, Iterable
from pathlib import Path

from mlx_integrations.cli.main import main
from mlx_integrations.cli.parts import Parts
from mlx_integrations.settings import Settings
from mlx_integrations.testing import FakeEmbeddingBackend
from mlx_integrations.types import EmbeddingChunk, EmbeddingOptions

PAUSE, LOG = float(os.environ.pop("MLXI_TEST_PAUSE", "0")), os.environ.pop("MLXI_TEST_LOG", "")


_AS_USUAL = EmbeddingOptions()


class LoggingBackend(FakeEmbeddingBackend):
    """Notes which texts it embeds, for whoever comes after a kill."""

    def stream(
        self, texts: Iterable[str], options: EmbeddingOptions = _AS_USUAL
    ) -> Generator[EmbeddingChunk, None, None]:
        held = list(texts)
        if LOG:
            with Path(LOG).open("a") as file:
                file.write("".join(f"{json.dumps([self.model_id, text])}\n" for text in held))
        time.sleep(PAUSE)
        yield from super().stream(held, options)


def find(name: str) -> LoggingBackend:
    return LoggingBackend(model_id=name, dimensions=16, seed=len(name), max_tokens=64)


PARTS = Parts(settings=lambda **values: Settings(**values), embedding_backend=find)

if __name__ == "__main__":
    sys.exit(main(["migrate", *sys.argv[1:]], PARTS))
