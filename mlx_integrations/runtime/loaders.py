"""How each kind of model gets from its folder onto the worker thread."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

from mlx_integrations.errors import UnsupportedArchitectureError
from mlx_integrations.runtime.folder import ModelFolder
from mlx_integrations.runtime.lanes import Lane
from mlx_integrations.settings import RuntimeSettings

if TYPE_CHECKING:
    from mlx_integrations.runtime.embedding.model_files import SentenceModel

__all__ = ["ChatLoader", "EmbeddingLoader", "Kind", "Loader", "Pace"]

Kind = Literal["chat", "embedding"]
Pace = Callable[[], float | None]
"""Seconds that a background step may take now; `None` while nothing else runs."""


class Loader(Protocol):
    """Knows one model folder and how to load it."""

    kind: ClassVar[Kind]

    @property
    def path(self) -> Path:
        """The folder that users name."""
        ...

    @property
    def folder(self) -> ModelFolder:
        """The folder with the weights: the same one, or one inside it."""
        ...

    def weight_bytes(self, *, as_float32: bool) -> int:
        """Bytes of memory the weights take, as stored or widened to float32."""
        ...

    def check(self) -> None:
        """Refuse what can never be loaded, before memory is made free for it. Worker thread only."""
        ...

    def load(self, settings: RuntimeSettings, pace: Pace) -> Lane:
        """Load the weights. Worker thread only."""
        ...


@dataclass(frozen=True, slots=True)
class ChatLoader:
    """Loads a chat model through mlx-lm."""

    folder: ModelFolder
    kind: ClassVar[Kind] = "chat"

    @property
    def path(self) -> Path:
        """The folder that users name."""
        return self.folder.path

    def weight_bytes(self, *, as_float32: bool) -> int:
        """Bytes of memory the weights take."""
        return self.folder.weight_bytes(as_float32=as_float32)

    def check(self) -> None:
        """Refuse an architecture that mlx-lm does not know."""
        from mlx_integrations.runtime._mlx import has_architecture

        if not has_architecture(self.folder.model_type):
            raise UnsupportedArchitectureError(
                f"mlx-lm cannot run models of type `{self.folder.model_type}` (`{self.folder.path}`).",
                model_path=str(self.folder.path),
                model_type=self.folder.model_type,
            )

    def load(self, settings: RuntimeSettings, pace: Pace) -> Lane:
        """Load the weights into the lane that fits the model's caches."""
        from mlx_integrations.runtime._mlx import load_weights
        from mlx_integrations.runtime.chat.lanes import make_lane

        return make_lane(
            load_weights(self.folder.path, cpu_float32=settings.cpu_float32),
            max_batch_size=settings.max_batch_size,
            prefill_step_tokens=settings.prefill_step_tokens,
        )


@dataclass(frozen=True, slots=True)
class EmbeddingLoader:
    """Loads an embedding model with the modules that its files name."""

    model: "SentenceModel"
    kind: ClassVar[Kind] = "embedding"

    @property
    def path(self) -> Path:
        """The folder that users name."""
        return self.model.path

    @property
    def folder(self) -> ModelFolder:
        """The folder with the weights of the transformer."""
        return self.model.folder

    def weight_bytes(self, *, as_float32: bool) -> int:
        """Bytes of memory the weights take, those of the further modules included."""
        return self.model.weight_bytes(as_float32=as_float32)

    def check(self) -> None:
        """Refuse an architecture that there is no engine for; reading the files has refused all else."""
        from mlx_integrations.runtime.embedding.encoders import check_architecture

        check_architecture(self.folder.config, path=self.folder.path)

    def load(self, settings: RuntimeSettings, pace: Pace) -> Lane:
        """Load the weights into a lane that batches by tokens."""
        from mlx_integrations.runtime.embedding.lane import EmbeddingLane
        from mlx_integrations.runtime.embedding.network import load_network

        return EmbeddingLane(load_network(self.model, cpu_float32=settings.cpu_float32), pace=pace)
