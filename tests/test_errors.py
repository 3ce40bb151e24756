"""The error tree: its classes, their messages and pickles."""

from __future__ import annotations

import pickle

import pytest

from h5bound import errors

TREE = {
    errors.SourceNotFoundError: FileNotFoundError,
    errors.DatasetNotFoundError: KeyError,
    errors.UnsupportedError: NotImplementedError,
    errors.SourceChangedError: RuntimeError,
    errors.CorruptChunkError: ValueError,
    errors.UnsafeSourceError: PermissionError,
    errors.TargetError: OSError,
    errors.OptionError: ValueError,
}


def test_the_tree_has_these_leaves_and_no_others() -> None:
    assert set(errors.H5BoundError.__subclasses__()) == set(TREE)


def test_the_tree_is_drawn_as_it_is() -> None:
    for error, builtin in TREE.items():
        assert any(
            error.__name__ in line and f"({builtin.__name__})" in line for line in str(errors.__doc__).split("\n")
        )


@pytest.mark.parametrize("error", [errors.H5BoundError, *TREE], ids=lambda error: error.__name__)
def test_an_error_shows_its_message_and_survives_a_pickle(error: type[errors.H5BoundError]) -> None:
    raised = error("dataset 'x' of a.h5: odd; try another")
    again = pickle.loads(pickle.dumps(raised))
    assert type(again) is error
    assert str(again) == str(raised) == "dataset 'x' of a.h5: odd; try another"
    assert again.args == raised.args


@pytest.mark.parametrize(("error", "builtin"), TREE.items(), ids=lambda item: item.__name__)
def test_a_caller_can_catch_the_builtin_kind(error: type[errors.H5BoundError], builtin: type[Exception]) -> None:
    with pytest.raises(builtin, match="found"):
        raise error("found")


def test_naming_puts_the_subject_before_these_errors_only() -> None:
    with pytest.raises(errors.UnsafeSourceError, match=r"^a\.h5: outside$"), errors.naming("a.h5"):
        raise errors.UnsafeSourceError("outside")
    with pytest.raises(errors.TargetError, match=r"^exists$"), errors.naming("a.h5"):
        raise errors.TargetError("exists")
