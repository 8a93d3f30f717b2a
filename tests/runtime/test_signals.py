"""Signals that end a command: the handlers that were there before come back."""

from __future__ import annotations

import signal

import pytest

from infogan_fast.runtime.signals import stop_signals


def test_signals_are_handled_within_the_block_alone() -> None:
    received: list[int] = []
    before = signal.getsignal(signal.SIGUSR1)
    with stop_signals(received.append):
        signal.raise_signal(signal.SIGUSR1)
    assert received == [signal.SIGUSR1] and signal.getsignal(signal.SIGUSR1) == before


def test_a_handler_that_is_not_python_s_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = signal.getsignal
    monkeypatch.setattr(
        signal, "getsignal", lambda number: None if number == signal.SIGUSR1 else usual(number)
    )
    changed: list[int] = []
    set_handler = signal.signal

    def watched(number: int, handler: object) -> object:
        changed.append(number)
        return set_handler(number, handler)  # type: ignore[arg-type]

    monkeypatch.setattr(signal, "signal", watched)
    with stop_signals(print):
        pass
    assert signal.SIGTERM in changed and signal.SIGUSR1 not in changed
