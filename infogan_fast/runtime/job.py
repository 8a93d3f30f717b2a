"""The processes of a job that torchrun has started: what they have in common, and what becomes of all of them
if one fails, dies, hangs or loses its link.

They talk through torchrun's store, whose address comes from torchrun alone. Every second each process counts
up a number of its own there, which the first process reads. A process that fails leaves the reason; one whose
number stands still for the time limit is taken for dead. In both cases the first process prints the reason as
its last line, and all of them end.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import platform
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any

import torch
from torch import distributed
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from infogan_fast.errors import ReportedError, UserError
from infogan_fast.runtime.ranks import Ranks
from infogan_fast.runtime.signals import stop_signals

_BEAT = 1.0  # seconds between two signs of life
_DEAD = 4.0  # seconds without one, once something has gone wrong
_JOIN = 300.0  # seconds for all processes to come, until the run's time limit is known
_FAILED = 1  # the exit status of processes that end because of another one


class Job:
    """This process's part in a job; alone by default, and then the methods do nothing."""

    def __init__(self) -> None:
        self.ranks = Ranks()
        self.restarts = 0
        """How many times torchrun has started the job again."""
        self.local_rank: int | None = None
        """Of this process among those of its host; None where it is alone."""
        self.interrupted: list[int] = []
        """The signals that have asked this process to end."""

    @property
    def is_first(self) -> bool:
        """Whether this process writes, prints and draws."""
        return self.ranks.rank == 0

    def from_first(self, name: str, make: Callable[[], str]) -> str:
        """What ``make`` gives on the first process."""
        return make()

    def check_alike(self, name: str, own: Mapping[str, Any]) -> None:
        """Check that values, by what they are called in an error, are those of the first process.

        Raises:
            UserError: they are not; the text names this process and the first value that differs.
        """

    def connect(self, device: torch.device, timeout: float) -> None:
        """Create the process group, with which :attr:`ranks` works; and set the time limit."""

    def shared(self, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What ``make`` gives on the first process: tensors, numbers and containers of them."""
        return make()

    def say_on_failure(self, advice: Callable[[], str]) -> None:
        """Add this to what is printed if the job ends because of a process."""

    def interrupt(self, number: int) -> None:
        """Note a signal."""
        self.interrupted.append(number)


class _Shared(Job):
    """A job of processes that torchrun has started."""

    def __init__(self) -> None:
        super().__init__()
        limit = timedelta(seconds=_JOIN)
        store, rank, size = next(rendezvous("env://", timeout=limit))
        self.ranks = Ranks(rank, size)
        self.restarts = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
        self.local_rank = int(os.environ["LOCAL_RANK"])
        self._advice: Callable[[], str] = str
        self._limit = _JOIN
        self.name = f"rank {rank} on {platform.node()} (process {os.getpid()})"
        self._store: Store = store
        attempt = self._meet(store)
        self._group_store = PrefixStore(f"{attempt}/group", store)
        self._store = PrefixStore(f"{attempt}/job", store)
        self._watch = _Watch(PrefixStore(f"{attempt}/job", store.clone()), self)

    def _meet(self, store: Store) -> str:
        """A name for this attempt, which all processes have when all are there: torchrun keeps its store when
        it starts them again, and no number of its own is the same on all hosts."""
        rank, size = self.ranks.rank, self.ranks.size
        own = uuid.uuid4().hex
        if rank > 0:
            store.set(f"here/{rank}", own)
            attempt = self._get(f"attempt/{own}").decode()
            self._introduce(store, attempt)
            return attempt
        self._introduce(store, own)
        missing, until = set(range(1, size)), time.monotonic() + self._limit
        while missing:
            for other in sorted(missing):
                if store.check([f"here/{other}"]):  # perhaps of the attempt before
                    store.set(f"attempt/{store.get(f'here/{other}').decode()}", own)
            missing = {other for other in missing if not store.check([f"{own}/job/name/{other}"])}
            if self.interrupted or time.monotonic() > until:
                names = ", ".join(map(str, sorted(missing)))
                raise UserError(f"no sign of rank {names} within {self._limit:g} s")
            time.sleep(0.02)
        return own

    def _introduce(self, store: Store, attempt: str) -> None:
        rank = self.ranks.rank
        store.set(f"{attempt}/job/beat/{rank}", "0")
        store.set(f"{attempt}/job/name/{rank}", self.name)

    def from_first(self, name: str, make: Callable[[], str]) -> str:
        if self.is_first:
            text = make()
            self._store.set(f"told/{name}", text)
            return text
        return self._get(f"told/{name}").decode()

    def _get(self, key: str) -> bytes:
        until = time.monotonic() + self._limit
        while not self._store.check([key]):
            if self.interrupted:
                raise UserError("interrupted before the first update")
            if time.monotonic() > until:
                raise UserError(f"{self.name}: the first process has not come within {self._limit:g} s")
            time.sleep(0.02)
        found: bytes = self._store.get(key)
        return found

    def check_alike(self, name: str, own: Mapping[str, Any]) -> None:
        mine = {key: _plain(value) for key, value in own.items()}
        first = json.loads(self.from_first(f"alike/{name}", lambda: json.dumps(mine)))
        for key in [*first, *(key for key in mine if key not in first)]:
            theirs, ours = (values.get(key, "nothing") for values in (first, mine))
            if theirs != ours:
                raise UserError(
                    f"{key} is {ours} in this process and {theirs} in the first; start all of them alike"
                )

    def connect(self, device: torch.device, timeout: float) -> None:
        self._limit = timeout
        arguments: dict[str, Any] = {"backend": "gloo"}
        if device.type == "cuda":
            arguments = {"backend": "cpu:gloo,cuda:nccl", "device_id": device}
        distributed.init_process_group(
            **arguments,
            store=self._group_store,
            rank=self.ranks.rank,
            world_size=self.ranks.size,
            timeout=timedelta(seconds=timeout),
        )
        self.ranks = Ranks(self.ranks.rank, self.ranks.size, joined=True)
        distributed.barrier()
        self._watch.limit = timeout

    def shared(self, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        if not self.is_first:
            content = torch.empty(int(self._get("size").decode()), dtype=torch.uint8)
            distributed.broadcast(content, 0)
            found: dict[str, Any] = torch.load(io.BytesIO(content.numpy().tobytes()), weights_only=True)
            return found
        made, file = make(), io.BytesIO()
        torch.save(made, file)
        self._store.set("size", str(file.tell()))
        distributed.broadcast(torch.frombuffer(file.getbuffer(), dtype=torch.uint8), 0)
        return made

    def say_on_failure(self, advice: Callable[[], str]) -> None:
        self._advice = advice

    def interrupt(self, number: int) -> None:
        super().interrupt(number)
        # torchrun sends this to all processes when one is gone, and ends them for good half a minute later.
        self._watch.limit = min(self._watch.limit, _DEAD)

    def begin(self) -> None:
        self._watch.start()

    def leave(self) -> None:
        """End together: the first process, which has the most to do, is the last."""
        with contextlib.suppress(RuntimeError):  # the store is gone, and its process with it
            if self.is_first:
                self._store.set("done", "")
            while not self._store.check(["done"]):
                time.sleep(0.05)
        self._watch.stop()
        if distributed.is_initialized():
            distributed.destroy_process_group()

    def failed(self, error: BaseException) -> BaseException:
        """The error to raise, after the job's other processes know of it."""
        found = None
        if _is_consequence(error):  # of what befell another process
            self._watch.limit = _DEAD
            found = _wait_for(self._store, "failed", 3 * _DEAD)
            if found is None:
                found = f"{self.name} lost its link to another process ({_first_line(error)})"
        reason = f"{self.name}: {_first_line(error)}" if found is None else found
        with contextlib.suppress(RuntimeError):
            reason = self._store.compare_set("failed", "", reason).decode()
        own = reason.startswith(self.name)
        if self.is_first:
            self._watch.stop()
            result = error if own and found is None else UserError(f"{reason}{self.advice()}")
            with contextlib.suppress(RuntimeError):
                self._store.set("reported", "")
            return result
        if _wait_for(self._store, "reported", 2 * _DEAD) is not None:
            return ReportedError(reason)
        return UserError(reason)

    def advice(self) -> str:
        """What to do after a failure, to be appended to the reason."""
        text = self._advice()
        return f"; {text}" if text else ""


class _Watch:
    """Signs of life of this process, and those of the others on the first one."""

    def __init__(self, store: Store, job: _Shared) -> None:
        self._store, self._job, self.limit = store, job, _JOIN
        self._stopped = threading.Event()
        self._answered = time.monotonic()
        self._seen: dict[int, tuple[bytes, float]] = {}

    def start(self) -> None:
        for run in (self._beat, self._await_answers):
            threading.Thread(target=run, daemon=True, name=f"infogan_fast {run.__name__}").start()

    def stop(self) -> None:
        self._stopped.set()

    def _beat(self) -> None:
        rank, size = self._job.ranks.rank, self._job.ranks.size
        others = [f"beat/{other}" for other in range(size) if other != rank]
        while not self._stopped.wait(_BEAT):
            try:
                self._store.add(f"beat/{rank}", 1)
                self._answered = time.monotonic()
                if rank == 0 and others:
                    self._look_at(others)
                if self._store.check(["failed"]):
                    self._end(bytes(self._store.get("failed")).decode())
            except RuntimeError:  # no answer; the other thread counts the seconds
                continue

    def _look_at(self, others: list[str]) -> None:
        now = time.monotonic()
        for key, value in zip(others, self._store.multi_get(others), strict=True):
            other = int(key.removeprefix("beat/"))
            if other not in self._seen or self._seen[other][0] != value:
                self._seen[other] = value, now
            silent = now - self._seen[other][1]
            if silent > self.limit:
                name = bytes(self._store.get(f"name/{other}")).decode()
                text = f"{name} has not been heard of for {silent:.0f} s: it is dead, hangs or has no link"
                self._store.compare_set("failed", "", text)

    def _end(self, reason: str) -> None:
        """End this process: the main thread may wait for another one for ever."""
        if self._stopped.wait(0.5 * _BEAT):  # the main thread does it
            return
        if self._job.is_first:
            print(f"infogan_fast.train: {reason}{self._job.advice()}", file=sys.stderr, flush=True)
            with contextlib.suppress(RuntimeError):
                self._store.set("reported", "")
        elif not reason.startswith(self._job.name):
            # torchrun ends the first process as soon as this one is gone.
            _wait_for(self._store, "reported", 2 * _DEAD)
        else:
            return
        os._exit(_FAILED)

    def _await_answers(self) -> None:
        while not self._stopped.wait(_BEAT):
            silent = time.monotonic() - self._answered
            if silent > self.limit:
                text = f"{self._job.name}: no answer from the first process's host for {silent:.0f} s"
                print(f"infogan_fast.train: {text}{self._job.advice()}", file=sys.stderr, flush=True)
                os._exit(_FAILED)


def _wait_for(store: Store, key: str, seconds: float) -> str | None:
    """The value of a key, once it is there; None if it does not come."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with contextlib.suppress(RuntimeError):  # no answer this time
            if store.check([key]):
                return bytes(store.get(key)).decode()
        time.sleep(0.05)
    return None


def _plain(value: Any) -> Any:
    return value if isinstance(value, (int, float, str)) else str(value)


def _first_line(error: BaseException) -> str:
    text = (str(error).splitlines() or [""])[0]
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"


def _is_consequence(error: BaseException) -> bool:
    """Whether an error says that another process did not answer."""
    text = str(error).lower()
    return isinstance(error, distributed.DistError) or (
        isinstance(error, RuntimeError) and ("gloo" in text or "nccl" in text)
    )


@contextlib.contextmanager
def join() -> Iterator[Job]:
    """Take part in the job that torchrun has started this process for, if it has.

    Raises:
        ReportedError: another process of the job failed, and the first one says so.
        UserError: another process failed, and this is the first.
    """
    if not distributed.is_torchelastic_launched():
        yield Job()
        return
    job = _Shared()
    job.begin()
    # Whatever it was that failed, this process is to say so before a signal ends it.
    with stop_signals(job.interrupt):
        try:
            yield job
        except BaseException as error:
            raised = job.failed(error)
            if raised is error:
                raise
            raise raised from error
        job.leave()
