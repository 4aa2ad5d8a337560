"""Which numbers a request samples with: its own, else the model's generation_config.json, else neutral. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from mlx_integrations.errors import ContextOverflowError, InvalidRequestError
from mlx_integrations.types import SamplingParams

__all__ = ["MAX_TOP_LOGPROBS", "Sampling", "resolve_sampling"]

MAX_TOP_LOGPROBS = 20  # as in the OpenAI API
_MAX_TEMPERATURE = 1000.0  # all tokens are as good as equally likely long before
_GREEDY_BELOW = 1e-5  # dividing by less overflows, and the draw has no choice left
_MAX_BIAS = 10_000.0  # far beyond any logit, and small enough to stay exact in float32
_MAX_PENALTY = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Sampling with every value decided and in range; fields as in `SamplingParams`."""

    temperature: float
    top_p: float
    top_k: int
    min_p: float
    xtc_probability: float
    xtc_threshold: float
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    logit_bias: tuple[tuple[int, float], ...]
    seed: int | None
    max_tokens: int
    logprobs: bool
    top_logprobs: int


def resolve_sampling(
    params: SamplingParams,
    *,
    generation_config: Mapping[str, Any],
    vocabulary_size: int,
    prompt_tokens: int,
    context_window: int,
    default_max_tokens: int,
) -> Sampling:
    """Decide every value and check it.

    Raises:
        InvalidRequestError: A value is impossible; names the field and its range.
        ContextOverflowError: The prompt leaves no room for an answer.
    """
    room = context_window - prompt_tokens
    if room < 1:
        raise ContextOverflowError(
            f"The prompt has {prompt_tokens:,} tokens, the model's window holds {context_window:,}.",
            prompt_tokens=prompt_tokens,
            limit_tokens=context_window,
        )
    pick = _Picker(params, generation_config)
    max_tokens = default_max_tokens if params.max_tokens is None else _check_count("max_tokens", params.max_tokens, 1)
    stops = [stop for stop in params.stop if not isinstance(stop, str) or not stop]
    if stops:
        raise InvalidRequestError(
            "A stop string is empty.", field="stop", hint="Give strings of one character or more."
        )
    top_logprobs = _check_count("top_logprobs", params.top_logprobs, 0, MAX_TOP_LOGPROBS)
    return Sampling(
        temperature=_temperature(pick, generation_config),
        top_p=pick.number("top_p", 1.0, low=0.0, high=1.0, low_open=True),
        top_k=_top_k(pick, vocabulary_size),
        min_p=pick.number("min_p", 0.0, low=0.0, high=1.0),
        xtc_probability=pick.number("xtc_probability", 0.0, low=0.0, high=1.0),
        xtc_threshold=pick.number("xtc_threshold", 0.1, low=0.0, high=0.5),
        repetition_penalty=pick.number("repetition_penalty", 1.0, low=0.0, high=_MAX_PENALTY, low_open=True),
        presence_penalty=pick.number("presence_penalty", 0.0, low=-_MAX_PENALTY, high=_MAX_PENALTY),
        frequency_penalty=pick.number("frequency_penalty", 0.0, low=-_MAX_PENALTY, high=_MAX_PENALTY),
        logit_bias=_check_bias(params.logit_bias, vocabulary_size),
        seed=None if params.seed is None else _check_count("seed", params.seed, None),
        max_tokens=min(max_tokens, room),
        logprobs=params.logprobs or top_logprobs > 0,
        top_logprobs=top_logprobs,
    )


class _Picker:
    """The request's value, else the model's own, else the default.

    The request's values are checked; the model's count only when they are in range, and, as in transformers, only when
    its file says `do_sample`.
    """

    def __init__(self, params: SamplingParams, generation_config: Mapping[str, Any]) -> None:
        self._params = params
        self._model = generation_config if generation_config.get("do_sample") else {}

    def number(
        self,
        field: str,
        default: float,
        *,
        low: float = -math.inf,
        high: float = math.inf,
        low_open: bool = False,
    ) -> float:
        asked = getattr(self._params, field)
        if asked is not None:
            if _in_range(asked, low, high, low_open):
                return float(asked)
            raise InvalidRequestError(
                f"`{field}` cannot be `{asked!r}`.", field=field, hint=_range_hint(field, low, high, low_open)
            )
        own = self._model.get(field)
        return float(own) if own is not None and _in_range(own, low, high, low_open) else default


def _temperature(pick: _Picker, generation_config: Mapping[str, Any]) -> float:
    """transformers samples only with `do_sample`; its temperature is then 1 unless the file says otherwise."""
    is_unsaid = generation_config.get("do_sample") and "temperature" not in generation_config
    value = pick.number("temperature", 1.0 if is_unsaid else 0.0, low=0.0, high=_MAX_TEMPERATURE)
    return value if value >= _GREEDY_BELOW else 0.0


def _top_k(pick: _Picker, vocabulary_size: int) -> int:
    value = pick.number("top_k", 0, low=0, high=vocabulary_size)
    if value != int(value):
        raise InvalidRequestError(f"`top_k` cannot be `{value}`.", field="top_k", hint="Give a whole number.")
    return 0 if value == vocabulary_size else int(value)


def _in_range(value: Any, low: float, high: float, low_open: bool) -> bool:
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    number: Any = value
    return bool((low < number if low_open else low <= number) and number <= high)


def _range_hint(field: str, low: float, high: float, low_open: bool) -> str:
    if math.isinf(low) and math.isinf(high):
        return f"`{field}` is any finite number."
    above = f"above {low:g}" if low_open else f"at least {low:g}"
    return f"`{field}` is a number {above}" + ("." if math.isinf(high) else f" and at most {high:g}.")


def _check_count(field: str, value: Any, low: int | None, high: int | None = None) -> int:
    if (
        isinstance(value, bool)
        or not isinstance(value, Integral)
        or (low is not None and int(value) < low)
        or (high is not None and int(value) > high)
    ):
        bounds = "" if low is None else f", at least {low}" + (f" and at most {high}" if high is not None else "")
        raise InvalidRequestError(
            f"`{field}` cannot be `{value!r}`.", field=field, hint=f"`{field}` is a whole number{bounds}."
        )
    return int(value)


def _check_bias(bias: Mapping[int, float] | None, vocabulary_size: int) -> tuple[tuple[int, float], ...]:
    checked: list[tuple[int, float]] = []
    for token_id, value in (bias or {}).items():
        # The OpenAI API writes token ids as strings. An id beyond the vocabulary is an out-of-bounds write in MLX.
        is_digits = isinstance(token_id, str) and token_id.isascii() and token_id.isdecimal()
        number = int(token_id) if is_digits else token_id
        if isinstance(number, bool) or not isinstance(number, Integral) or not 0 <= number < vocabulary_size:
            raise InvalidRequestError(
                f"`logit_bias` names the token id `{token_id!r}`.",
                field="logit_bias",
                hint=f"Token ids of this model are 0 to {vocabulary_size - 1}.",
            )
        if not _in_range(value, -_MAX_BIAS, _MAX_BIAS, False):
            raise InvalidRequestError(
                f"`logit_bias` of token {number} cannot be `{value!r}`.",
                field="logit_bias",
                hint=f"Give numbers from -{_MAX_BIAS:g} to {_MAX_BIAS:g}; 100 usually decides.",
            )
        checked.append((int(number), float(value)))
    return tuple(sorted(checked))
