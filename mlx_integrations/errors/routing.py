"""Several candidates were asked, and nobody has answered whole."""

from collections.abc import Mapping, Sequence
from typing import Any

from mlx_integrations.errors.base import MLXIntegrationsError

__all__ = ["EmbeddingSpaceError", "PartialResponseError", "RouterError"]


class RouterError(MLXIntegrationsError):
    """Every candidate that might answer has failed; its cause is the error of the first one.

    `attempts` are pairs of a candidate's name and what went wrong with it, in the order in which they were asked.
    """

    is_retryable = True
    default_hint = "`attempts` says what went wrong with each candidate; the first one's error is the cause."

    def __init__(self, message: str, *, attempts: Sequence[tuple[str, str]] = (), hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.attempts = tuple(attempts)


class EmbeddingSpaceError(RouterError):
    """Nobody is left whose vectors can be compared with those there are; nothing was embedded by anybody else.

    `wanted` says whose vectors they are, `offered` who else there is: for each a name, a model and its dimensions, as
    far as they are known. `fields` names what keeps the first one offered out.
    """

    is_retryable = True
    default_hint = (
        "Let the first model work again, or add a fallback that runs the same model. A model of another kind may only "
        "fill a store that is new: `for_new_store=True`."
    )

    def __init__(
        self,
        message: str,
        *,
        wanted: Mapping[str, Any],
        offered: Sequence[Mapping[str, Any]] = (),
        fields: Sequence[str] = (),
        attempts: Sequence[tuple[str, str]] = (),
        hint: str | None = None,
    ) -> None:
        super().__init__(message, attempts=attempts, hint=hint)
        self.wanted = dict(wanted)
        self.offered = tuple(dict(item) for item in offered)
        self.fields = tuple(fields)


class PartialResponseError(MLXIntegrationsError):
    """A candidate failed after part of its answer was shown, so that nobody else could be asked unnoticed.

    `partial_text` is what was shown, `candidate` who wrote it; the cause is the candidate's error.
    """

    is_retryable = True
    default_hint = 'Ask again, or use `guarantee="complete"`, which shows an answer when all of it is there.'

    def __init__(self, message: str, *, partial_text: str = "", candidate: str = "", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.partial_text = partial_text
        self.candidate = candidate
