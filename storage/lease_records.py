"""What a lease's object says, and what can be told from it: who holds what, and whether they live."""

import json
import os
import socket
import uuid
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

_CLOCK_SLACK_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRecord:
    """What the lease's object says."""

    run_id: str
    host: str
    machine: str
    """Tells this start of a machine, and this space of process numbers, from others of the same name."""
    pid: int
    process_started: float
    """Seconds since 1970, by the holder's clock: tells a process from a later one with the same number."""
    acquired_at: str
    renewed_at: str
    ttl_seconds: float
    owner: str
    """Names this one holding of the lease."""
    nonce: str
    """New in each write, so that no two are equal."""
    released: bool = False
    shards: tuple[int, int | None] = (0, None)
    """First shard that is held and the one behind the last; None where there is no last one."""

    def encode(self) -> bytes:
        """As JSON."""
        return json.dumps(asdict(self), indent=2).encode()


def overlaps(one: tuple[int, int | None], other: tuple[int, int | None]) -> bool:
    """Whether two ranges of shards share one."""
    return (other[1] is None or one[0] < other[1]) and (one[1] is None or other[0] < one[1])


def is_here(holder: LeaseRecord) -> bool:
    """Whether the holder ran on this start of this machine."""
    return holder.host == socket.gethostname() and holder.machine == _machine()


def is_dead_here(holder: LeaseRecord) -> bool:
    """Whether the holder ran on this machine and is certainly gone."""
    if not is_here(holder):
        return False
    try:
        process = psutil.Process(holder.pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return True
        return abs(process.create_time() - holder.process_started) > _CLOCK_SLACK_SECONDS
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return False


def _machine() -> str:
    try:
        # Containers share the kernel's boot id; the namespace tells whose process numbers these are.
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return f"{uuid.getnode():x} {psutil.boot_time():.0f}"


def now() -> str:
    """The time, UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def record_of_this_process(run_id: str, ttl_seconds: float, shards: tuple[int, int | None]) -> LeaseRecord:
    """A new holding of this process."""
    return LeaseRecord(
        run_id=run_id,
        host=socket.gethostname(),
        machine=_machine(),
        pid=os.getpid(),
        process_started=psutil.Process().create_time(),
        acquired_at=now(),
        renewed_at=now(),
        ttl_seconds=ttl_seconds,
        shards=shards,
        owner=uuid.uuid4().hex,
        nonce=uuid.uuid4().hex,
    )
