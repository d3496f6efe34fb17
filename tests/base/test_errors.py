import pickle

import pytest

from doorward import errors
from doorward.errors import DoorwardError, UnknownName

ALL = [getattr(errors, name) for name in errors.__all__]


@pytest.mark.parametrize("kind", ALL)
def test_message_has_all_three_parts_and_survives_another_process(kind):
    error = kind("the disk is full", why="0 MiB are free", remedy="delete something")
    assert str(error) == "the disk is full: 0 MiB are free. Delete something."
    twin = pickle.loads(pickle.dumps(error))
    assert type(twin) is kind
    assert str(twin) == str(error)


@pytest.mark.parametrize("kind", ALL)
def test_every_error_is_a_doorward_error_with_a_docstring(kind):
    assert issubclass(kind, DoorwardError)
    assert kind.__doc__


def test_parts_may_be_left_out():
    assert str(DoorwardError("it broke")) == "it broke"
    assert str(DoorwardError("it broke", remedy="mend it.")) == "it broke. Mend it."


def test_unknown_name_without_a_close_match_lists_what_exists():
    assert str(UnknownName.of("trigger", "zzz", ["patch", "blend"])) == (
        "no trigger is called 'zzz'. Known: blend, patch."
    )
