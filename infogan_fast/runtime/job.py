"""The processes of a job that torchrun has started: what they have in common, and what becomes of all of them
if one fails, dies, hangs or loses its link.

They talk through torchrun's store, whose address comes from torchrun alone. Every second each process writes
there how far it is, which the first process reads. A process that fails leaves the reason. One that has not
written for the time limit is taken for dead, and one that the others wait for that long is taken to hang.
Then the first process prints the reason as its last line, and all of them end.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import math
import os
import platform
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any

import torch
from torch import distributed
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from infogan_fast.errors import CommonError, ReportedError, UserError
from infogan_fast.runtime.ranks import Ranks
from infogan_fast.runtime.signals import stop_signals

_BEAT = 1.0  # seconds between two signs of life
_DEAD = 4.0  # seconds without one, once a message has failed
_ENDING = 15.0  # the same once a signal asks to end: torchrun kills what is left after 30
_JOIN = 300.0  # seconds for all processes to come, until the run's time limit is known
_WRITING = 10  # times the limit for the first process while it reads or writes files
_FAILED = 1  # the exit status of processes that end because of another one
_joined = itertools.count()  # how often this process has joined a job: a script may train several times


class Job:
    """This process's part in a job; alone by default, and then the methods do nothing."""

    def __init__(self) -> None:
        self.ranks = Ranks()
        self.local_rank: int | None = None
        """Of this process among those of its host; None where it is alone."""
        self.interrupted: list[int] = []
        """The signals that have asked this process to end."""
        self.update = 0
        """How many updates this process has behind it."""

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

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Within the block, the first process reads or writes files, for which the others wait."""
        yield

    def note(self, name: str, text: str) -> None:
        """Leave a text for the job's next attempt, should torchrun start it again."""

    def noted(self, name: str) -> str | None:
        """What an earlier attempt of this job has left."""
        return None


class _Shared(Job):
    """A job of processes that torchrun has started."""

    def __init__(self, interrupted: list[int]) -> None:
        super().__init__()
        self.interrupted = interrupted
        limit = timedelta(seconds=_JOIN)
        store, rank, size = next(rendezvous("env://", timeout=limit))
        self.ranks = Ranks(rank, size)
        self.local_rank = int(os.environ["LOCAL_RANK"])
        self.failing = False
        self.is_writing = False
        self.written = -math.inf  # when it last wrote
        self._advice: Callable[[], str] = str
        self._limit = _JOIN
        self.name = f"rank {rank} on {platform.node()} (process {os.getpid()})"
        self._store: Store = store
        attempt = self._meet(store)
        # torchrun keeps it when it starts the job again, and then processes count from 0 again.
        self._attempts = PrefixStore(f"call/{next(_joined)}", store)
        self._group_store = PrefixStore(f"{attempt}/group", store)
        self._store = PrefixStore(f"{attempt}/job", store)
        self._watch = _Watch(PrefixStore(f"{attempt}/job", store.clone()), self)

    def _meet(self, store: Store) -> str:
        """A name for this attempt, which all processes have when all are there. torchrun has no number of
        attempts that is the same on all hosts."""
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
                raise UserError(f"rank {names} has not come within {self._limit:g} s")
            time.sleep(0.02)
        return own

    def _introduce(self, store: Store, attempt: str) -> None:
        rank = self.ranks.rank
        store.set(f"{attempt}/job/beat/{rank}", "")
        store.set(f"{attempt}/job/name/{rank}", self.name)

    def from_first(self, name: str, make: Callable[[], str]) -> str:
        if self.is_first:
            text = make()
            self._store.set(f"told/{name}", text)
            return text
        return self._get(f"told/{name}").decode()

    def _get(self, key: str) -> bytes:
        limit = _WRITING * self._limit
        until = time.monotonic() + limit
        while not self._store.check([key]):
            if self.interrupted:
                raise UserError("interrupted before the first update")
            if time.monotonic() > until:
                raise UserError(f"the first process has not come as far within {limit:g} s")
            time.sleep(0.02)
        found: bytes = self._store.get(key)
        return found

    def check_alike(self, name: str, own: Mapping[str, Any]) -> None:
        mine = {key: str(value) for key, value in own.items()}
        first = json.loads(self.from_first(f"alike/{name}", lambda: json.dumps(mine)))
        for key in [*first, *(key for key in mine if key not in first)]:
            theirs, ours = (values.get(key, "not given") for values in (first, mine))
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
            # The watch is the first to end what hangs, and says why; the first process may be writing.
            timeout=timedelta(seconds=2 * _WRITING * timeout),
        )
        self.ranks = Ranks(self.ranks.rank, self.ranks.size, joined=True)
        distributed.barrier()
        self._watch.limit, self._watch.connected = timeout, time.monotonic()

    def shared(self, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        if not self.is_first:
            content = torch.empty(int(self._get("size").decode()), dtype=torch.uint8)
            distributed.broadcast(content, 0)
            file = io.BytesIO(content.numpy().tobytes())
            found: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
            return found
        with self.writing():
            made, file = make(), io.BytesIO()
            torch.save(made, file)
            self._store.set("size", str(file.tell()))
        distributed.broadcast(torch.frombuffer(file.getbuffer(), dtype=torch.uint8), 0)
        return made

    def say_on_failure(self, advice: Callable[[], str]) -> None:
        self._advice = advice

    def interrupt(self, number: int) -> None:
        super().interrupt(number)
        # torchrun sends this to all processes when one is gone.
        self._watch.limit = min(self._watch.limit, _ENDING)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        self.is_writing = True
        try:
            yield
        finally:
            self.written = time.monotonic()
            self.is_writing = False

    def note(self, name: str, text: str) -> None:
        if self.is_first:
            self._attempts.set(f"noted/{name}", text)

    def noted(self, name: str) -> str | None:
        key = f"noted/{name}"
        return self._attempts.get(key).decode() if self._attempts.check([key]) else None

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
        self.failing = True
        if isinstance(error, CommonError) and not self.is_first:
            return self._after_the_first(error)  # which has the same one
        reason = None
        if _is_consequence(error):  # of what befell another process
            self._watch.limit = _DEAD
            reason = _wait_for(self._store, "failed", 3 * _DEAD)
        elif not isinstance(error, UserError) and not self.is_first:
            traceback.print_exception(error)
        own = reason is None
        if reason is None:
            what = f"lost its link to another process ({_first_line(error)})"
            text = f"{self.name} {what}" if _is_consequence(error) else f"{self.name}: {_first_line(error)}"
            reason = _reason(text, advise=not isinstance(error, UserError))
            with contextlib.suppress(RuntimeError):
                reason = self._store.compare_set("failed", "", reason).decode()
        if not self.is_first:
            return self._after_the_first(UserError(json.loads(reason)["text"]))
        self._watch.stop()
        result = error if own and not _is_consequence(error) else UserError(self.in_words(reason))
        with contextlib.suppress(RuntimeError):
            self._store.set("reported", "")
        return result

    def _after_the_first(self, error: UserError) -> UserError:
        """The error to raise when the first process has said what happened, or cannot."""
        if _wait_for(self._store, "reported", 2 * _DEAD) is not None:
            return ReportedError(str(error))
        return error

    def in_words(self, reason: str) -> str:
        """A reason that a process left, with what to do about it."""
        found = json.loads(reason)
        advice = self._advice() if found["advise"] else ""
        return f"{found['text']}; {advice}" if advice else str(found["text"])


def _reason(text: str, *, advise: bool) -> str:
    return json.dumps({"text": text, "advise": advise})


class _Watch:
    """Signs of life of this process, and those of the others on the first one."""

    def __init__(self, store: Store, job: _Shared) -> None:
        self._store, self._job, self.limit = store, job, _JOIN
        self.connected: float | None = None  # when; what came before, such as loading images, is no stall
        self._stopped = threading.Event()
        self._answered = time.monotonic()
        self._beats = 0
        self._seen: dict[int, tuple[str, float]] = {}
        self._moved: dict[int, tuple[list[int], float]] = {}

    def start(self) -> None:
        for run in (self._beat, self._await_answers):
            threading.Thread(target=run, daemon=True, name=f"infogan_fast {run.__name__}").start()

    def stop(self) -> None:
        self._stopped.set()

    def _beat(self) -> None:
        rank, size = self._job.ranks.rank, self._job.ranks.size
        keys = [f"beat/{each}" for each in range(size)]
        while not self._stopped.wait(_BEAT):
            try:
                self._beats += 1
                position = [self._job.update, self._job.ranks.calls[0]]
                self._store.set(f"beat/{rank}", json.dumps([self._beats, position]))
                failed = self._store.check(["failed"])  # an answer, where set has none
                self._answered = time.monotonic()
                if failed:
                    self._end(self._store.get("failed").decode())
                elif rank == 0:
                    self._look_at([value.decode() for value in self._store.multi_get(keys)])
            except RuntimeError:  # no answer; the other thread counts the seconds
                continue

    def _look_at(self, beats: list[str]) -> None:
        now = time.monotonic()
        for rank, beat in enumerate(beats):
            if rank not in self._seen or self._seen[rank][0] != beat:
                self._seen[rank] = beat, now
            position = json.loads(beat)[1] if beat else [0, 0]
            if rank not in self._moved or self._moved[rank][0] != position:
                self._moved[rank] = position, now
            silent = now - self._seen[rank][1]
            if silent > self.limit:
                self._declare(rank, f"has not been heard of for {silent:.0f} s: it is dead or has no link")
                return
        limit = self.limit * (_WRITING if self._job.is_writing else 1)
        if self.connected is None:
            return
        still = now - max(self.connected, self._job.written, *(when for _, when in self._moved.values()))
        if still > limit:
            # The others wait in a later message, or in an update that it has not begun.
            rank = min(self._moved, key=lambda each: (self._moved[each][0], each))
            self._declare(
                rank, f"hangs after update {self._moved[rank][0][0]:,}: no progress for {still:.0f} s"
            )

    def _declare(self, rank: int, text: str) -> None:
        name = self._store.get(f"name/{rank}").decode()
        self._store.compare_set("failed", "", _reason(f"{name} {text}", advise=True))

    def _end(self, reason: str) -> None:
        """End this process: the main thread may wait for another one for ever."""
        if self._job.failing or self._stopped.wait(0.5 * _BEAT) or self._job.failing:
            return  # the main thread does it
        if self._job.is_first:
            print(f"infogan_fast.train: {self._job.in_words(reason)}", file=sys.stderr, flush=True)
            with contextlib.suppress(RuntimeError):
                self._store.set("reported", "")
        else:
            # torchrun ends the first process as soon as this one is gone.
            _wait_for(self._store, "reported", 2 * _DEAD)
        os._exit(_FAILED)

    def _await_answers(self) -> None:
        while not self._stopped.wait(_BEAT):
            silent = time.monotonic() - self._answered
            if silent > self.limit:
                text = f"{self._job.name} has had no answer from torchrun's store for {silent:.0f} s"
                reason = self._job.in_words(_reason(text, advise=True))
                print(f"infogan_fast.train: {reason}", file=sys.stderr, flush=True)
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
    interrupted: list[int] = []
    started: list[_Shared] = []

    def interrupt(number: int) -> None:
        if started:
            started[0].interrupt(number)
        else:
            interrupted.append(number)

    # Whatever it was that failed, this process is to say so before a signal ends it.
    with stop_signals(interrupt):
        try:
            job = _Shared(interrupted)
        except (distributed.DistError, OSError) as error:
            raise UserError(f"torchrun's store does not answer ({_first_line(error)})") from None
        started.append(job)
        job.begin()
        try:
            yield job
        except BaseException as error:
            raised = job.failed(error)
            if raised is error:
                raise
            raise raised from error
        job.leave()
