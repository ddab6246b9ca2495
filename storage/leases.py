"""One run at a time on an output, or on a range of its shards.

The lease is an object that its holder writes again and again. Whoever finds one does not look at the time in it, since
the clocks of two machines disagree, but watches whether it is written again within its own term. It is taken with a
conditional create, renewed, taken over and let go with a conditional replace. A holder that was paused for longer than
the term cannot be stopped from waking up; that commits are create-only keeps its data from harm.
"""

import json
import logging
import threading
import time
import uuid
from dataclasses import replace
from types import TracebackType
from typing import Literal, Protocol

from records.errors import BusyError, FailureKind, TransientError, UserError
from storage.lease_records import LeaseRecord, is_dead_here, is_here, now, overlaps, record_of_this_process
from storage.stores import Store

logger = logging.getLogger(__name__)

SHARDS = "lease"
"""Name of the lease of the shards, all of them or a range."""

_FOLDER = "leases/"
_RENEWALS_A_TERM = 3
_RELEASE_TRIES = 3
"""A garbled token costs a try; the requests themselves are retried below."""
_LOOKS_A_TERM = 10


class Check(Protocol):
    """Raises BusyError where a lease was lost: `Lease.check`."""

    def __call__(self, *, ask: bool = False) -> None: ...


def unchecked(*, ask: bool = False) -> None:
    """Of who holds no lease."""


class Lease:
    """A held lease, renewed in the background until it is released. Use it as a context manager."""

    def __init__(self, store: Store, path: str, record: LeaseRecord, token: str) -> None:
        self._store = store
        self._path = path
        self._record = record
        self._token = token
        self._renewed = _clock_seconds()
        self._stop = threading.Event()
        self.lost = threading.Event()
        """Set once another run holds the lease, or it could not be renewed for a whole term."""
        self._thread = threading.Thread(target=self._keep, name=f"renew-{path}", daemon=True)
        self._thread.start()

    @classmethod
    def acquire(
        cls,
        store: Store,
        run_id: str,
        ttl_seconds: float = 30.0,
        name: str = SHARDS,
        shards: tuple[int, int | None] = (0, None),
    ) -> "Lease":
        """Takes the lease of a range of shards, waiting up to one term of a holder that may be dead.

        A range has its own object. Whoever has taken one looks at the others: of two that overlap, each of which must
        have been written before the other's holder looked, at least one is seen, and who sees one lets go.

        Args:
            run_id: Named to others that want the lease.
            ttl_seconds: The term: a holder that does not renew for this long may be replaced.
            name: What is held: the shards, or something apart from them that has but one holder.
            shards: First shard and the one behind the last, None for no end; all of them where nothing is said.

        Raises:
            BusyError: Another run holds it, or one that overlaps; names the run, its machine and process, since when.
        """
        lease = cls._take(store, run_id, ttl_seconds, _path(name, shards), shards)
        if name != SHARDS:
            return lease
        try:
            _refuse_overlaps(store, lease._path, lease._record)
        except BaseException:
            lease.release()
            raise
        return lease

    @classmethod
    def _take(cls, store: Store, run_id: str, ttl_seconds: float, path: str, shards: tuple[int, int | None]) -> "Lease":
        while True:
            record = record_of_this_process(run_id, ttl_seconds, shards)
            found = _read(store, path)
            if found is None:
                taken = store.create(path, record.encode())
            else:
                holder, token = found
                if not holder.released and not is_dead_here(holder):
                    _watch(store, path, holder, token)
                taken = store.replace(path, record.encode(), token)
                if taken and not holder.released:
                    logger.warning("run %s took the lease over from run %s, which is gone", run_id, holder.run_id)
            stored = _read(store, path)
            if taken and stored is not None and stored[0].owner == record.owner:
                return cls(store, path, record, stored[1])

    def check(self, *, ask: bool = False) -> None:
        """Raises where the lease was lost.

        Args:
            ask: Whether to ask the store also where the last renewal is not long ago by this machine's clock, which a
                virtual machine that was paused may not have seen move.

        Raises:
            BusyError: Another run may hold it now.
        """
        overdue = not self._stop.is_set() and _clock_seconds() - self._renewed > self._record.ttl_seconds
        if self.lost.is_set() or ((ask or overdue) and not self._is_held()):
            raise BusyError(f"run {self._record.run_id} lost {self._store.uri(self._path)}: another run may hold it")

    def _is_held(self) -> bool:
        """Asks the store: a process that was paused may come here before its renewals do."""
        found = _read(self._store, self._path)
        return found is not None and found[0].owner == self._record.owner

    def release(self) -> None:
        """Stops renewing and lets the next run in at once. Safe to call twice."""
        if self._stop.is_set():
            return
        self._stop.set()
        self._thread.join()
        for left in reversed(range(_RELEASE_TRIES)):
            if self.lost.is_set():
                return
            try:
                self._write(released=True)
                return
            except (TransientError, UserError, OSError) as error:
                if not left:
                    logger.warning("the lease could not be released and runs out by itself: %s", error)

    def __enter__(self) -> "Lease":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> Literal[False]:
        self.release()
        if kind is not None and not self.lost.is_set():
            self._store.retract(self._path, self._token)  # a command that was refused leaves no folder
        return False

    def _keep(self) -> None:
        term = self._record.ttl_seconds
        while not self._stop.wait(term / _RENEWALS_A_TERM):
            try:
                held = self._write(released=False)
            except (TransientError, UserError, OSError) as error:
                logger.warning("the lease could not be renewed yet: %s", error)
                held = _clock_seconds() - self._renewed <= term
            if not held:
                logger.error("run %s lost its lease", self._record.run_id)
                self.lost.set()
                return

    def _write(self, *, released: bool) -> bool:
        """Renews; False where another run holds the lease.

        Raises:
            TransientError: It is still this run's, but what it holds could not be replaced: a token was garbled.
        """
        started = _clock_seconds()
        record = replace(self._record, nonce=uuid.uuid4().hex, renewed_at=now(), released=released)
        written = self._store.replace(self._path, record.encode(), self._token)
        found = _read(self._store, self._path)
        if not written and found is not None and found[0].owner == record.owner:
            # An earlier renewal arrived although its answer was lost: go on from what it wrote.
            written = self._store.replace(self._path, record.encode(), found[1])
            found = _read(self._store, self._path)
        if found is None or found[0].owner != record.owner:
            return False
        if not written:
            raise TransientError(FailureKind.UNREACHABLE, f"{self._store.uri(self._path)} is ours but was not replaced")
        self._token, self._renewed = found[1], started
        return True


def _clock_seconds() -> float:
    """Seconds since some moment, those of a suspended machine included where its system counts them."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


def _read(store: Store, path: str) -> tuple[LeaseRecord, str] | None:
    try:
        data, token = store.read_with_token(path)
    except FileNotFoundError:
        return None
    try:
        record = LeaseRecord(**json.loads(data))
        return replace(record, shards=(record.shards[0], record.shards[1])), token  # JSON has no tuples
    except (ValueError, TypeError):
        raise UserError(f"{store.uri(path)} is no lease of this version: delete it if no run is active") from None


def _path(name: str, shards: tuple[int, int | None]) -> str:
    start, stop = shards
    part = "" if shards == (0, None) else f"-{start:08d}-{'end' if stop is None else f'{stop:08d}'}"
    return f"{_FOLDER}{name}{part}.json"


def _refuse_overlaps(store: Store, own_path: str, own: LeaseRecord) -> None:
    """Returns once no living run holds a range that shares a shard with `own`; ends the leases of dead ones.

    Raises:
        BusyError: One does.
    """
    for entry in store.list(f"{_FOLDER}{SHARDS}"):
        while entry.path != own_path:
            found = _read(store, entry.path)
            if found is None or found[0].released or not overlaps(found[0].shards, own.shards):
                break
            holder, token = found
            if not is_dead_here(holder):
                _watch(store, entry.path, holder, token)
            # Written over, so that a holder that was only paused learns that its time is over.
            ended = replace(holder, released=True, owner=own.owner, nonce=uuid.uuid4().hex)
            if store.replace(entry.path, ended.encode(), token):
                logger.warning("run %s, which is gone, no longer holds its range", holder.run_id)


def _watch(store: Store, path: str, holder: LeaseRecord, token: str) -> None:
    """Returns once the holder has let its term pass or let go.

    Raises:
        BusyError: It is alive.
    """
    if is_here(holder):
        raise _busy(store, holder)
    logger.info("run %s on %s holds the lease: watching for %.0f s", holder.run_id, holder.host, holder.ttl_seconds)
    until = time.monotonic() + holder.ttl_seconds
    while time.monotonic() < until:
        time.sleep(holder.ttl_seconds / _LOOKS_A_TERM)
        found = _read(store, path)
        if found is None or found[0].released:
            return
        if found[1] != token:
            raise _busy(store, found[0])


def _busy(store: Store, holder: LeaseRecord) -> BusyError:
    start, stop = holder.shards
    part = "" if holder.shards == (0, None) else f" (shards {start}:{'' if stop is None else stop})"
    return BusyError(
        f"{store.root}{part} is in use by run {holder.run_id} on {holder.host} (process {holder.pid}) "
        f"since {holder.acquired_at}: wait for it or stop it"
    )
