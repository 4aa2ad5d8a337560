"""What a model can do, in LangChain's words: `create_agent` and the summarisation middleware read it."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from langchain_core.language_models import ModelProfile

from mlx_integrations.types import ModelCapabilities

__all__ = ["LazyProfile", "profile_of"]


def profile_of(capabilities: ModelCapabilities) -> ModelProfile:
    """Translate capabilities."""
    window = capabilities.context_window
    return ModelProfile(
        open_weights=True,
        max_input_tokens=window,
        max_output_tokens=capabilities.max_output_tokens or window,
        text_inputs=True,
        image_inputs=capabilities.vision,
        image_url_inputs=False,
        pdf_inputs=False,
        audio_inputs=False,
        video_inputs=False,
        image_tool_message=False,
        pdf_tool_message=False,
        text_outputs=True,
        image_outputs=False,
        audio_outputs=False,
        video_outputs=False,
        reasoning_output=capabilities.reasoning,
        tool_calling=capabilities.tools,
        tool_choice=capabilities.tools,
        tool_call_streaming=capabilities.tools,
        structured_output=capabilities.structured_output,
        temperature=True,
    )


class LazyProfile(Mapping[str, Any]):
    """A profile that is looked up when it is first read.

    LangChain fills in `profile` when a model is constructed; the capabilities come from the model's files, which
    constructing an object should not read. It is not a `dict` because a `dict` cannot be filled on demand.
    """

    def __init__(self, look_up: Callable[..., ModelProfile], *arguments: Any) -> None:
        self._source = (look_up, arguments)
        self._found: Mapping[str, Any] | None = None

    def __getitem__(self, key: str) -> Any:
        return self._profile()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._profile())

    def __len__(self) -> int:
        return len(self._profile())

    def __bool__(self) -> bool:
        """A profile is never empty; asking must not look it up."""
        return True

    def __eq__(self, other: object) -> bool:
        """Two of the same source are equal; LangChain compares often, and comparing them must not look anything up."""
        if isinstance(other, LazyProfile):
            return self._source == other._source
        return isinstance(other, Mapping) and dict(self) == dict(other)

    def __hash__(self) -> int:
        return hash(self._source[0])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({'not read yet' if self._found is None else dict(self._found)})"

    def _profile(self) -> Mapping[str, Any]:
        if self._found is None:
            look_up, arguments = self._source
            self._found = look_up(*arguments)
        return self._found
