import pytest

from dfpipe.errors import UsageError
from dfpipe.extras import need


def test_what_is_missing_is_named_with_the_extra_that_brings_it() -> None:
    need("serve", "web", ["click"])
    with pytest.raises(UsageError, match=r"^serve needs no-such-module: pip install 'dfpipe\[web\]'$"):
        need("serve", "web", ["click", "no_such_module"])
