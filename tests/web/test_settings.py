"""What `dfpipe serve` refuses before it opens."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from dfpipe.cli import main
from dfpipe.errors import UsageError
from dfpipe.web.settings import Settings, check, is_loopback


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_this_machine_only(host: str) -> None:
    assert is_loopback(host)
    check(Settings(Path("data"), host=host))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.0.1", "example.org", "localhost.example.org"])
def test_other_machines_need_a_key_or_a_word(host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(UsageError, match="--insecure"):
        check(Settings(Path("data"), host=host))
    check(Settings(Path("data"), host=host, key="k" * 16))
    check(Settings(Path("data"), host=host, insecure=True))


def test_a_key_that_can_be_guessed_is_refused() -> None:
    with pytest.raises(UsageError, match="longer"):
        check(Settings(Path("data"), key="k" * 15))


def test_the_key_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "short").write_text("abc\n")
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for name, told in (
        ("short", "guessed"),
        ("empty", "empty"),
        ("binary", "cannot be read"),
        ("none", "cannot be read"),
    ):
        result = CliRunner().invoke(main, ["serve", "--data", str(tmp_path / "d"), "--key-file", str(tmp_path / name)])
        assert result.exit_code == 2
        assert told in result.output
        assert "abc" not in result.output
