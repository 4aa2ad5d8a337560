"""Values of a GGUF file's metadata, checked as they are read."""

from typing import Any

import numpy as np

from mlx_integrations.errors import ConversionError
from mlx_integrations.runtime.convert.gguf_file import GGUFFile

__all__ = ["END_TEXTS", "GGUFValues", "listed", "tidy"]

# End a turn whatever the metadata says; llama.cpp stops at them too (src/llama-vocab.cpp: `special_eog_ids`).
END_TEXTS = ("<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|eom_id|>", "<EOT>")
_END_KEYS = ("eos", "eot", "eom")
_TOKENS = "tokenizer.ggml.tokens"


class GGUFValues:
    """The metadata of one model.

    Args:
        file: The model.
        architecture: What its own keys begin with.
    """

    def __init__(self, file: GGUFFile, architecture: str) -> None:
        self.file = file
        self.architecture = architecture

    def get(self, key: str) -> Any:
        """The value of one of the architecture's keys, or `None`."""
        return self.file.metadata.get(f"{self.architecture}.{key}")

    def size(self, key: str, *, default: int | None = None) -> int:
        """A whole number; where there is one for each layer, they must all be the same."""
        value = self.get(key)
        if value is None and default is not None:
            return default
        if isinstance(value, np.ndarray | list):
            values = set(listed(value))
            value = values.pop() if len(values) == 1 else value
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise self.error(key, value)
        return value

    def number(self, key: str, *, default: float | None = None) -> float:
        """A number."""
        value = self.get(key)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.error(key, value)
        return tidy(value)

    def token_id(self, name: str) -> int | None:
        """The id of a special token, such as `bos`, if it has one that exists."""
        value = self.file.metadata.get(f"tokenizer.ggml.{name}_token_id")
        return value if isinstance(value, int) and 0 <= value < len(self.tokens()) else None

    def tokens(self) -> list[str]:
        """The vocabulary; empty if there is none."""
        tokens = self.file.metadata.get(_TOKENS)
        return tokens if isinstance(tokens, list) else []

    def end_ids(self) -> tuple[int, ...]:
        """Tokens that end an answer."""
        named = [self.token_id(name) for name in _END_KEYS]
        tokens = self.tokens()
        places = {token: index for index, token in enumerate(tokens) if token in END_TEXTS}
        found = [one for one in named if one is not None] + list(places.values())
        if not found:
            raise ConversionError(
                f"`{self.file.path}` names no token that ends an answer (`tokenizer.ggml.eos_token_id`).",
                path=str(self.file.path),
                hint="Take another file of the same model.",
            )
        return tuple(dict.fromkeys(found))

    def error(self, key: str, value: object) -> ConversionError:
        """An error about one of the architecture's keys."""
        what = "lacks" if value is None else f"has the value `{value}` for"
        return ConversionError(
            f"`{self.file.path}` {what} `{self.architecture}.{key}`, which a `{self.architecture}` needs to be right.",
            path=str(self.file.path),
            hint="Download the file again, or take another one of the same model.",
        )


def tidy(value: float) -> float:
    """The shortest number that is this one in float32: 1e-05 instead of 9.999999747378752e-06."""
    return float(str(np.float32(value))) if isinstance(value, float) else value


def listed(value: Any) -> list[Any]:
    """An array of the metadata as a list."""
    return value.tolist() if isinstance(value, np.ndarray) else list(value)
