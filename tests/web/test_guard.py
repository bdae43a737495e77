"""Who may ask, and from where; without a server."""

import hashlib

import pytest

pytest.importorskip("starlette", reason="needs the extra web")

from starlette.datastructures import Headers

from dfpipe.web.guard import LOCAL_NAMES, check_body, check_host, check_key, check_origin
from dfpipe.web.refusal import Refused


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST", "our.example"]
)
def test_known_names_are_answered(host: str) -> None:
    check_host(host, [*LOCAL_NAMES, "Our.example"])


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "localhost.evil.example",
        "evil.example:8000",
        "127.0.0.1.evil.example",
        "[",
        "localhost@evil.example",
    ],
)
def test_other_names_are_refused(host: str) -> None:
    with pytest.raises(Refused) as no:
        check_host(host, LOCAL_NAMES)
    assert no.value.status == 400


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "http://localhost:8000"},
        {"origin": "https://localhost:8000", "sec-fetch-site": "same-origin"},  # a proxy took the s off
        {"sec-fetch-site": "none"},
    ],
)
def test_our_own_page_and_programs_may_send(headers: dict[str, str]) -> None:
    check_origin(Headers({"host": "localhost:8000", **headers}))


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "http://localhost:9000"},
        {"origin": "null"},
        {"origin": ""},
        {"origin": "http://["},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "same-origin", "origin": "http://evil.example"},
    ],
)
def test_other_sites_may_not_send(headers: dict[str, str]) -> None:
    with pytest.raises(Refused) as no:
        check_origin(Headers({"host": "localhost:8000", **headers}))
    assert no.value.status == 403


def test_only_the_right_key_opens() -> None:
    key = hashlib.sha256("schlüssel".encode()).digest()
    check_key(Headers(raw=[(b"x-api-key", "schlüssel".encode("latin-1"))]), key)
    for headers in ({}, {"authorization": "Bearer"}, {"authorization": "Bearer schlussel"}, {"x-api-key": "SCHLÜSSEL"}):
        with pytest.raises(Refused) as no:
            check_key(Headers(headers), key)
        assert no.value.status == 401
        assert no.value.headers == {"WWW-Authenticate": "Bearer"}


@pytest.mark.parametrize("length", ["65537", "99999999999999999999", "-1", "x", ""])
def test_bodies_are_bounded(length: str) -> None:
    check_body(Headers({"content-length": "65536"}))
    check_body(Headers({}))
    with pytest.raises(Refused) as no:
        check_body(Headers({"content-length": length}))
    assert no.value.status == 413
