"""The texts of one call: read once from their source, kept until they have a vector, whoever makes it."""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence

from mlx_integrations.errors import InvalidRequestError

__all__ = ["EmbeddingTexts"]


class EmbeddingTexts:
    """Hands texts to one candidate after the other. Only those that are read and not answered yet are kept.

    Args:
        texts: The source; nothing is read of it here, but a list is checked whole.
        must_stay: Whether a text must not leave this machine.

    Raises:
        InvalidRequestError: What was given are no texts.

    Attributes:
        answered: How many texts have a vector.
        error: What reading the source raised.
        is_held: Whether a reader elsewhere was stopped before a text that must stay.
    """

    def __init__(self, texts: Iterable[str], must_stay: Callable[[str], bool] | None = None) -> None:
        if isinstance(texts, str):
            raise InvalidRequestError(
                "`texts` is one text, not a list of them.", field="texts", hint="Put it into a list: `[text]`."
            )
        if isinstance(texts, Sequence):
            for position, text in enumerate(texts):
                _check(text, position)
        self.answered = 0
        self.error: BaseException | None = None
        self.is_held = False
        self._source = iter(texts)
        self._must_stay = must_stay
        self._waiting: deque[str] = deque()
        self._lock = threading.Lock()

    @property
    def unanswered(self) -> int:
        """How many texts were read and have no vector."""
        return len(self._waiting)

    def read(self, *, is_local: bool) -> Generator[str, None, None]:
        """Every text without a vector, in order.

        Args:
            is_local: Whether the reader computes on this machine; another one is stopped before a text that must stay.
        """
        position = self.answered
        self.is_held = False
        while True:
            with self._lock:
                try:
                    text = self._at(position)
                except StopIteration:
                    return
                except BaseException as error:
                    self.error = error
                    raise
            if not is_local and self._must_stay is not None and self._must_stay(text):
                self.is_held = True
                return
            yield text
            position += 1

    def answer(self, count: int) -> None:
        """The next so many texts have a vector."""
        with self._lock:
            for _ in range(count):
                self._waiting.popleft()
            self.answered += count

    def _at(self, position: int) -> str:
        at = position - self.answered
        if at < len(self._waiting):
            return self._waiting[at]
        text = next(self._source)
        _check(text, position)
        self._waiting.append(text)
        return text


def _check(text: object, position: int) -> None:
    if not isinstance(text, str):
        raise InvalidRequestError(
            f"`texts[{position}]` is `{text!r}`, not a text."[:300],
            field=f"texts[{position}]",
            hint="Leave it out, or embed an empty text instead.",
        )
