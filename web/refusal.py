"""How the service says no: one form for every error."""

from dfpipe.errors import DfpipeError

Answer = dict[str, dict[str, str]]


class Refused(DfpipeError):
    """A request that is answered with an error.

    Args:
        status: Of HTTP.
        code: For programs.
        message: For people: what is wrong, and what to do.
        headers: That go with it.
    """

    def __init__(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.headers = status, code, headers or {}


def answer(code: str, message: str) -> Answer:
    """The body of every error."""
    return {"error": {"code": code, "message": message}}
