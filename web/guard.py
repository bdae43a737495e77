"""What stands before every route: who may ask, from where, how much, and what a browser may do with the answer.

Plain ASGI: it sees the bytes of a body as they come and holds none of them back.
"""

import hashlib
import hmac
import json
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dfpipe.web.refusal import Refused, answer
from dfpipe.web.settings import Settings

BODY_BYTES = 64 * 1024  # of any request but an upload: none of them needs a body at all
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
OPEN_PATHS = ("/", "/healthz", "/readyz", "/openapi.json")  # without a key: they tell nothing of anybody's files
OPEN_FOLDER = "/static/"
UPLOAD = ("POST", "/v1/jobs")
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")

# No inline script or style, nothing from elsewhere; blob: because the page shows what it fetched with its key.
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
# A report has its style and pictures inside and no script; the sandbox takes it out of this site.
REPORT_POLICY = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'none'"
)
DATA_POLICY = "sandbox; default-src 'none'; frame-ancestors 'none'"  # for all that is no page
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


class Guard:
    """Refuses requests, and adds headers to answers.

    Args:
        app: What stands behind it.
        settings: Of the service.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        checked = settings.loopback or settings.hosts
        self._hosts = frozenset((*LOCAL_NAMES, settings.host, *settings.hosts)) if checked else None
        self._key = _digest(settings.key) if settings.key is not None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                add_headers(MutableHeaders(scope=message), scope["path"])
            await send(message)

        try:
            self._check(scope)
        except Refused as no:
            await refuse(no, send_with_headers)
            return
        await self._app(scope, receive, send_with_headers)

    def _check(self, scope: Scope) -> None:
        headers, method, path = Headers(scope=scope), scope["method"], scope["path"]
        if self._hosts is not None:
            check_host(headers.get("host", ""), self._hosts)
        if method not in SAFE_METHODS:
            check_origin(headers)
        if self._key is not None and path not in OPEN_PATHS and not path.startswith(OPEN_FOLDER):
            check_key(headers, self._key)
        if (method, path) != UPLOAD:
            check_body(headers)


def check_host(host: str, known: Iterable[str]) -> None:
    """Refuses names that are not ours: a page elsewhere can let its own name point at this machine (DNS rebinding).

    Raises:
        Refused: 400.
    """
    if _address(f"//{host}")[0] not in {one.lower() for one in known}:
        raise Refused(400, "bad_host", "this service is not known by that name: see --allow-host of 'dfpipe serve'")


def check_origin(headers: Headers) -> None:
    """Refuses what a page of another site makes a browser send. Programs say neither where they are nor lie about it.

    Raises:
        Refused: 403.
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    # Behind a proxy the scheme is not known here: the name and port must be the same.
    if site not in (None, "same-origin", "none") or (
        origin is not None and _address(origin)[1] != headers.get("host", "").lower()
    ):
        raise Refused(403, "cross_site", "requests that change something are taken from this site's own page only")


def check_key(headers: Headers, key: bytes) -> None:
    """Lets in who knows the key.

    Args:
        headers: Of the request.
        key: Digest of the right one.

    Raises:
        Refused: 401.
    """
    scheme, _, token = headers.get("authorization", "").partition(" ")
    given = token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
    if not hmac.compare_digest(_digest(given), key):  # of digests, so that the length does not show either
        raise Refused(
            401,
            "no_key",
            "this service asks for its API key: send the header Authorization: Bearer KEY",
            {"WWW-Authenticate": "Bearer"},
        )


def check_body(headers: Headers) -> None:
    """Refuses bodies where none is needed. One without a length is not read by any of these routes.

    Raises:
        Refused: 413.
    """
    length = headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > BODY_BYTES:
        raise Refused(413, "too_big", "this request takes no body: send none")


def add_headers(headers: MutableHeaders, path: str) -> None:
    """What a browser is told of every answer."""
    for name, value in _HEADERS.items():
        headers.setdefault(name, value)
    page = path == "/" or path.startswith(OPEN_FOLDER)
    headers.setdefault("Content-Security-Policy", PAGE_POLICY if page else DATA_POLICY)
    headers.setdefault("Cache-Control", "no-cache" if page else "no-store")


async def refuse(no: Refused, send: Send) -> None:
    """Answers with an error."""
    body = json.dumps(answer(no.code, str(no))).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), **no.headers}
    raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": no.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


def _address(url: str) -> tuple[str | None, str]:
    """Name, and name with port, of an address that somebody sent."""
    try:
        parts = urlsplit(url)
        return parts.hostname, parts.netloc.lower()
    except ValueError:
        return None, ""


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
