"""The service: everything in order on disk, then uvicorn with the worker beside it."""

import logging
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import uvicorn

from dfpipe.errors import UsageError
from dfpipe.files import locked, sweep
from dfpipe.web.app import create_app
from dfpipe.web.jobs import JobStore
from dfpipe.web.patience import protocol
from dfpipe.web.settings import Settings, check
from dfpipe.web.supervisor import Supervisor

BACKLOG = 128  # connections that may wait to be taken
CONNECTIONS = 500  # at once; more get 503. Each takes a file descriptor, of which a process often has 1,024
GRACE_S = 5  # for which running requests may go on after the service was asked to stop
KEEP_ALIVE_S = 15  # for which a connection without a request stays open


def serve(settings: Settings, say: Callable[[str], object]) -> None:
    """Runs the service until it is stopped.

    Args:
        settings: Of the service.
        say: Told in a line where it can be reached.

    Raises:
        UsageError: Open to everybody by mistake, the port is taken, or another service uses the folder.
        ModelFileError: There is no model, or it is refused.
    """
    check(settings)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # of broken forms whoever sent them is told
    with bound(settings) as listener, held(settings):
        store = JobStore(settings.database, settings.queue)
        try:
            put_in_order(settings, store)
            _run(settings, store, listener, say)
        finally:
            store.close()


def _run(settings: Settings, store: JobStore, listener: socket.socket, say: Callable[[str], object]) -> None:
    def stop() -> None:
        server.should_exit = True

    worker = Supervisor(settings, store, on_failure=stop)
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(settings, store, worker),
            log_level="warning",
            access_log=False,  # names and addresses of whoever asks are not written down
            server_header=False,
            proxy_headers=False,
            ws="none",
            http=protocol(settings.chunk_seconds),
            limit_concurrency=CONNECTIONS,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=GRACE_S,
        )
    )
    host, port = listener.getsockname()[:2]
    say(f"dfpipe serves at http://{f'[{host}]' if ':' in host else host}:{port}/")
    try:
        server.run(sockets=[listener])
    finally:
        worker.stop()
    if worker.failure is not None:
        raise worker.failure


@contextmanager
def held(settings: Settings) -> Iterator[None]:
    """Keeps other services off the folder.

    Raises:
        UsageError: Another one uses it, or it cannot be written.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(settings.data))
        except UsageError as error:
            raise UsageError(
                f"{settings.data} cannot be written, or another service uses it: choose another --out"
            ) from error
        yield


def bound(settings: Settings) -> socket.socket:
    """A socket that listens where it was told to.

    Raises:
        UsageError: It cannot be had.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise UsageError(
            f"cannot listen on {settings.host} port {settings.port} ({error.strerror}): choose another --port"
        ) from error


def put_in_order(settings: Settings, store: JobStore) -> None:
    """Mends what a kill left: half uploads, files of no job, jobs without their file, and the job that was being judged."""
    shutil.rmtree(settings.scratch, ignore_errors=True)
    for folder in (settings.uploads, settings.results, settings.scratch):
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)
    store.recover("the service ended while the file was judged")
    known = store.ids()
    for folder in (settings.uploads, settings.results):
        for path in folder.iterdir():
            if path.name not in known:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    for job_id in store.ids("queued"):
        if not (settings.uploads / job_id).is_file():
            store.fail(job_id, "the uploaded file is not there any more: send it again")
