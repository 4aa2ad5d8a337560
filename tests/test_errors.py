"""The tree of errors is what its docstring draws, and every class keeps its promises."""

import builtins
import inspect
import pickle
import re
import typing
from collections.abc import Mapping
from typing import Any

import pytest

from mlx_integrations import errors
from mlx_integrations.errors import MLXIntegrationsError

CLASSES = [getattr(errors, name) for name in errors.__all__]
_SAMPLES = {str: "value", int: 7, Mapping[str, Any]: {"dimensions": 7}}


def _make(cls: type[MLXIntegrationsError], **extra: object) -> MLXIntegrationsError:
    """One error of that class, its required fields filled in by type."""
    hints = typing.get_type_hints(cls.__init__)
    parameters = inspect.signature(cls.__init__).parameters.values()
    required = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    return cls("It broke.", **{name: _SAMPLES[hints[name]] for name in required}, **extra)  # type: ignore[arg-type]


def _drawn() -> dict[str, tuple[str | None, str | None, bool]]:
    """Class name to (parent, second base, retryable) as drawn in the module's docstring."""
    tree: dict[str, tuple[str | None, str | None, bool]] = {}
    path: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"^( {4,})(\w+Error)(?: \((\w+)\))?\s", line)
        if match is None:
            continue
        indent, name = len(match[1]), match[2]
        path = [(depth, parent) for depth, parent in path if depth < indent]
        tree[name] = (path[-1][1] if path else None, match[3], "(retryable)" in line)
        path.append((indent, name))
    return tree


def test_the_drawn_tree_is_the_real_one() -> None:
    drawn = _drawn()
    assert sorted(drawn) == errors.__all__
    for cls in CLASSES:
        parent, second, retryable = drawn[cls.__name__]
        assert cls.__bases__[0].__name__ == (parent or "Exception")
        assert [base.__name__ for base in cls.__bases__[1:]] == ([second] if second else []), cls
        assert cls.is_retryable == retryable, cls


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_an_error_survives_pickling_with_all_its_fields(cls: type[MLXIntegrationsError]) -> None:
    error = _make(cls)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is cls
    assert vars(again) == vars(error)
    assert (str(again), again.args) == (str(error), error.args)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_an_error_says_what_happened_and_carries_a_hint(cls: type[MLXIntegrationsError]) -> None:
    assert isinstance(cls.is_retryable, bool)
    error = _make(cls, hint="Do this.")
    assert (error.message, error.hint, str(error)) == ("It broke.", "Do this.", "It broke. Do this.")
    assert isinstance(_make(cls).hint, str)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_old_except_clauses_still_catch_it(cls: type[MLXIntegrationsError]) -> None:
    _, second, _ = _drawn()[cls.__name__]
    if second is not None:
        assert issubclass(cls, getattr(builtins, second))


def test_a_missing_extra_names_the_install_line() -> None:
    error = errors.MissingExtraError("`ChatMLX` needs LangChain.", extra="langchain")
    assert 'pip install "mlx-integrations[langchain]"' in error.hint


def test_a_model_that_is_not_found_suggests_the_nearest() -> None:
    error = errors.ModelNotFoundError("No `demmo`.", model="demmo", suggestions=["demo"])
    assert error.hint == "Did you mean `demo`?"


def test_a_routers_error_keeps_each_attempt_and_the_first_error_as_its_cause() -> None:
    first = errors.GenerationError("It broke.")
    with pytest.raises(errors.RouterError) as caught:
        raise errors.RouterError("Nobody answered.", attempts=[("local", "it broke"), ("cloud", "429")]) from first
    assert caught.value.attempts == (("local", "it broke"), ("cloud", "429"))
    assert caught.value.__cause__ is first


def test_a_privacy_error_names_reasons_and_those_left_out() -> None:
    error = errors.PrivacyError("Nobody here.", because=["an email address, in a user message"], candidates=["gpt"])
    assert (error.because, error.candidates) == (("an email address, in a user message",), ("gpt",))
    assert isinstance(error, errors.RequestError)
