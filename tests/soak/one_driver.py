"""Harm to a run of one driver: kills, pauses, Ctrl-C, and changes in between."""

from __future__ import annotations

import signal
import time

from tests.soak.case import ENDING, HELD, INTERRUPTED, KILLED, OK, PAUSE, Case
from tests.soak.checks import finish
from tests.soak.drivers import Driver
from tests.soak.pipelines import PLAIN, Variant
from tests.soak.processes import processes, send


def kill_child(case: Case) -> None:
    """SIGKILL of the process that runs blocks: its worker starts another one."""
    _kill_helper(case, "child")


def kill_worker(case: Case) -> None:
    """SIGKILL of a worker: its blocks are handed out again."""
    _kill_helper(case, "worker")


def _kill_helper(case: Case, victim: str) -> None:
    reference = case.lab.reference(case.store, case.pipeline, PLAIN)
    driver = case.start()
    if case.await_moment(driver, reference):
        case.strike(victim, signal.SIGKILL, driver)
    case.end(driver)
    finish(case)


def kill_driver(case: Case) -> None:
    """SIGKILL of the driver, once or twice, and another driver that goes on."""
    reference = case.lab.reference(case.store, case.pipeline, PLAIN)
    for _ in range(case.draw.choice([1, 1, 2])):
        end_early(case, case.start(), reference, signal.SIGKILL)
    case.resume()
    finish(case)


def kill_scheduler(case: Case) -> None:
    """SIGKILL of a scheduler that runs elsewhere: the driver ends with 4."""
    reference = case.lab.reference(case.store, case.pipeline, PLAIN)
    driver = case.start()
    expected = {OK}
    if case.await_moment(driver, reference) and case.strike("scheduler", signal.SIGKILL, driver):
        expected = {OK, HELD}
    case.end(driver, expected)
    case.lab.scheduler.close()
    case.resume()
    finish(case)


def interrupt(case: Case) -> None:
    """Ctrl-C, and the same command again."""
    reference = case.lab.reference(case.store, case.pipeline, PLAIN)
    end_early(case, case.start(), reference, signal.SIGINT)
    case.resume()
    finish(case)


def pause_child(case: Case) -> None:
    """A child that is stopped for longer than a heartbeat counts, and goes on."""
    _pause_helper(case, "child")


def pause_worker(case: Case) -> None:
    """A worker that is stopped for longer than a heartbeat counts, and goes on."""
    _pause_helper(case, "worker")


def _pause_helper(case: Case, victim: str) -> None:
    reference = case.lab.reference(case.store, case.pipeline, PLAIN)
    driver = case.start()
    if case.await_moment(driver, reference):
        stopped = case.strike(victim, signal.SIGSTOP, driver)
        time.sleep(PAUSE)
        send(stopped, signal.SIGCONT)
    case.end(driver)
    finish(case)


def pause_driver(case: Case) -> None:
    """A driver, and sometimes all that it started, is stopped, and no other takes over.

    Another driver on the same machine is refused meanwhile, however old the heartbeat is.
    """
    reference = case.lab.reference(case.store, case.pipeline, PLAIN)
    whole, tried = case.draw.random() < 0.3, case.draw.random() < 0.5
    driver = case.start()
    if case.await_moment(driver, reference):
        stopped = processes(case.token) if whole else []
        driver.signal(signal.SIGSTOP)
        send(stopped, signal.SIGSTOP)
        time.sleep(PAUSE)
        if tried and case.holds(driver):
            case.end(case.start(executor="none"), {HELD})
        send(stopped, signal.SIGCONT)
        driver.signal(signal.SIGCONT)
    case.end(driver)
    finish(case)


def parameters(case: Case) -> None:
    """Other parameters after each of one to three interruptions; the last ones count."""
    _changes(case, parameter=True, block=case.draw.random() < 0.3)


def blocks(case: Case) -> None:
    """Another block shape after each of one to three interruptions; the last one counts."""
    _changes(case, parameter=False, block=True)


def _changes(case: Case, *, parameter: bool, block: bool) -> None:
    variant = PLAIN
    for _ in range(case.draw.choice([1, 1, 2, 3])):
        reference = case.lab.reference(case.store, case.pipeline, variant)
        end_early(case, case.start(variant), reference)
        change = (parameter and case.draw.random() < 0.9, block and case.draw.random() < 0.9)
        variant = Variant(variant.parameter ^ change[0], variant.block ^ change[1])
    case.note = f"{case.note} to {variant.parameter}{variant.block}"
    case.resume(variant)
    finish(case, variant)


def end_early(case: Case, driver: Driver, reference: object, number: int = 0) -> None:
    """End a driver at a moment by chance, by SIGKILL or Ctrl-C."""
    number = number or case.draw.choice([signal.SIGKILL, signal.SIGINT])
    expected = {OK}
    if case.await_moment(driver, reference):  # type: ignore[arg-type]
        if number == signal.SIGKILL:
            driver.signal(number)
            expected = {OK, KILLED}
        else:
            driver.interrupt()
            expected = {OK, INTERRUPTED, ENDING}
    case.end(driver, expected)
