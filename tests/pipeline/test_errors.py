import pickle

import pytest

from dfpipe.errors import MAX_MESSAGE, ConfigError, DfpipeError, MediaTimeout


def test_a_message_is_one_line_whatever_is_put_into_it() -> None:
    assert str(DfpipeError("cannot read it (thrift:\n  no more data\r\n): extract again")) == (
        "cannot read it (thrift: no more data ): extract again"
    )
    assert str(DfpipeError("two  spaces stay")) == "two  spaces stay"


def test_of_a_long_message_beginning_and_advice_are_kept() -> None:
    told = str(ConfigError(f"a.b must be a number, not {'x' * 100_000!r}: write 3"))
    assert len(told) <= MAX_MESSAGE
    assert told.startswith("a.b must be a number")
    assert told.endswith("x': write 3")


@pytest.mark.parametrize("error", [DfpipeError(), MediaTimeout("too long")])
def test_errors_cross_to_other_processes(error: DfpipeError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
