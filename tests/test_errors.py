"""One hierarchy with one base; each error is also the built-in that a caller would expect."""

from __future__ import annotations

import pickle

import pytest

from fastconv import errors

EXPECTED = {
    errors.ModelFormatError: ValueError,
    errors.ShapeError: ValueError,
    errors.ArgumentError: ValueError,
    errors.DTypeError: TypeError,
    errors.UnsupportedOperatorError: NotImplementedError,
    errors.MissingExtraError: ImportError,
}


@pytest.mark.parametrize(("error", "builtin"), EXPECTED.items())
def test_hierarchy(error: type[Exception], builtin: type[Exception]) -> None:
    assert issubclass(error, errors.FastconvError)
    assert issubclass(error, builtin)
    assert error.__doc__


def test_every_error_is_exported() -> None:
    defined = {value.__name__ for value in vars(errors).values() if isinstance(value, type)}
    assert set(errors.__all__) == defined
    assert {error.__name__ for error in EXPECTED} | {"FastconvError"} == defined


@pytest.mark.parametrize("error", EXPECTED)
def test_errors_survive_a_process_boundary(error: type[Exception]) -> None:
    copy = pickle.loads(pickle.dumps(error("fc1: expects 256 features")))
    assert type(copy) is error
    assert str(copy) == "fc1: expects 256 features"
