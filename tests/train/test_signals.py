"""Stop signals."""

import signal

import pytest

from ssd_lib.train.signals import STOP_SIGNALS, StopRequested, StopSignal


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_stop_signal_is_noted_and_raised_at_the_next_check(number: int) -> None:
    """SIGUSR1 among them, which Slurm sends before a time limit."""
    before = signal.signal(number, signal.SIG_DFL)  # SIGHUP may be ignored around the tests
    try:
        with StopSignal().listen() as stop:
            signal.raise_signal(number)
            assert stop.signal_number == number
            with pytest.raises(StopRequested):
                stop.check()
    finally:
        signal.signal(number, before)


def test_sigusr1_of_slurm_is_a_stop_signal() -> None:
    assert signal.SIGUSR1 in STOP_SIGNALS


def test_sighup_is_ignored_under_nohup() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignal().listen() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert stop.signal_number is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_in_validation_ends_it_at_once() -> None:
    def validate(stop: StopSignal, went_on: list[bool]) -> None:
        with stop.raise_now():
            signal.raise_signal(signal.SIGTERM)
            went_on.append(True)
    went_on: list[bool] = []
    with StopSignal().listen() as stop, pytest.raises(StopRequested):
        validate(stop, went_on)
    assert stop.signal_number == signal.SIGTERM
    assert not went_on


def test_a_second_ctrl_c_interrupts_unless_other_processes_share_the_terminal() -> None:
    def press_twice(alone: bool) -> None:
        with StopSignal(alone=alone).listen():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        press_twice(alone=True)
    press_twice(alone=False)
