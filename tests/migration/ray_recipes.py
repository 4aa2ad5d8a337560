"""What tests of a cluster send to its machines, and a driver to be killed.

python -m tests.migration.ray_recipes ADDRESS STORE
"""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlx_integrations.errors import GenerationError
from mlx_integrations.migration.api import migrate
from mlx_integrations.migration.executors.local import LocalExecutor
from mlx_integrations.migration.executors.protocol import Executor, LongTexts, Vectors
from mlx_integrations.migration.executors.ray_data import Cluster, RayExecutor
from mlx_integrations.migration.stores.faiss.langchain import LangChainFaissStore
from mlx_integrations.testing import FakeEmbeddingBackend


class _Failing(LocalExecutor):
    """Ends its process at `poison` and fails at `flaky`, once each; does so each time at `deadly` and `hopeless`."""

    def __init__(self, backend: FakeEmbeddingBackend, long_texts: LongTexts, folder: Path | None) -> None:
        super().__init__(backend, long_texts=long_texts)
        self._folder = folder

    def embed(self, batches: Iterable[Sequence[str]]) -> Iterator[Vectors]:
        for texts in batches:
            if "deadly" in texts or ("poison" in texts and self._is_first("poison")):
                os._exit(1)
            if "hopeless" in texts or ("flaky" in texts and self._is_first("flaky")):
                raise GenerationError("The model stumbled.")
            yield from super().embed([texts])

    def _is_first(self, word: str) -> bool:
        if self._folder is None:
            return False
        try:
            (self._folder / word).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


@dataclass(frozen=True, kw_only=True)
class FakeRecipe:
    """A model of hashes; implements `Recipe`.

    Attributes:
        long_texts: As for any executor.
        folder: Where is noted what has failed once.
        is_uneven: Whether every process has another model.
        delay_seconds: What embedding takes at least.
    """

    long_texts: LongTexts = "truncate"
    folder: Path | None = None
    is_uneven: bool = False
    delay_seconds: float = 0

    def build(self) -> Executor:
        seed = os.getpid() if self.is_uneven else 1
        backend = FakeEmbeddingBackend(
            model_id="new-model", dimensions=16, seed=seed, max_tokens=64, delay_seconds=self.delay_seconds
        )
        return _Failing(backend, self.long_texts, self.folder)


def drive(address: str, folder: str) -> None:
    """Migrate a store on a running cluster, and say after each batch how many rows are done."""
    with RayExecutor(FakeRecipe(delay_seconds=0.5), Cluster(address=address)) as executor:
        store = LangChainFaissStore(Path(folder))
        migrate(store, executor, batch_rows=32, on_progress=lambda progress: print(progress.done, flush=True))  # noqa: T201


if __name__ == "__main__":
    drive(*sys.argv[1:])
