"""HTTP connections that end when nothing sensible comes: a request's head in drips, or a body that was refused and goes on.

uvicorn limits only how long a connection may be quiet. How slow a body may be that is wanted, `uploads` says.
"""

import asyncio
from functools import partial
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


class PatientProtocol(H11Protocol):
    """One connection.

    Args:
        patience: s for what is waited for.
        **rest: As uvicorn gives them.
    """

    def __init__(self, patience: float, **rest: Any) -> None:
        super().__init__(**rest)
        self._patience = patience
        self._end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client came."""
        super().connection_made(transport)
        self._look()

    def data_received(self, data: bytes) -> None:
        """Something came."""
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        """A request is answered."""
        super().on_response_complete()
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client went."""
        self._stop()
        super().connection_lost(exc)

    def _look(self) -> None:
        """Starts the clock when there is something to wait for, and stops it when that came."""
        refused = self.cycle is not None and self.cycle.response_complete and self.conn.their_state is h11.SEND_BODY
        if not refused and self.conn.their_state is not h11.IDLE:
            self._stop()
        elif self._end is None:
            self._end = self.loop.call_later(self._patience, self.transport.close)

    def _stop(self) -> None:
        if self._end is not None:
            self._end.cancel()
            self._end = None


def protocol(patience: float) -> Any:
    """What uvicorn makes of each connection.

    Args:
        patience: s for the head of a request, and for the rest of a body after its answer.
    """
    return partial(PatientProtocol, patience=patience)
