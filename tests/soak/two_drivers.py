"""Two drivers of one run, tasks that outlive their driver, and two runs that write one layer."""

from __future__ import annotations

import signal
import time

from tests.soak.case import HELD, KILLED, OK, PAUSE, REFUSED, Case
from tests.soak.checks import (
    compare,
    compare_layer,
    finish,
    look_for_late_writes,
    look_for_leftovers,
)
from tests.soak.drivers import Driver
from tests.soak.pipelines import PLAIN, Variant
from tests.soak.places import Place
from tests.soak.processes import processes, send


def takeover(case: Case) -> None:
    """A driver is stopped; one on another machine takes over; then the first goes on.

    The first ends with 4, whether the second is at work or done by then.
    """
    reference = case.lab.reference(case.store, case.pipeline, PLAIN)
    meanwhile, whole = case.draw.random() < 0.5, case.draw.random() < 0.4
    first = case.start()
    if not case.await_moment(first, reference):
        case.end(first)
        finish(case)
        return
    stopped = processes(case.token) if whole else []
    first.signal(signal.SIGSTOP)
    send(stopped, signal.SIGSTOP)
    time.sleep(PAUSE)
    held = case.holds(first)
    chosen = case.draw.choice(["none", case.executor])
    second = case.start(executor=chosen, place="another machine")
    if meanwhile:
        _await_start(case, second)
    else:
        case.end(second)
    before = Place(case.run).written()
    send(stopped, signal.SIGCONT)
    first.signal(signal.SIGCONT)
    case.note += " meanwhile" if meanwhile else " afterwards"
    if meanwhile:
        _both_end(case, first, second, held)
    else:
        idle = not list(Place(case.run).ranges(second.pid))
        if case.end(first, {HELD} if held and not idle else {OK, HELD}) == HELD:
            look_for_late_writes(case, before)
    finish(case)


def _both_end(case: Case, first: Driver, second: Driver, held: bool) -> None:
    """The second ends well; the first does so only if it did not hold the run when stopped."""
    code = case.end(first, {OK, HELD})
    expected = {OK} if held or code == HELD else {OK, HELD}
    case.end(second, expected)
    ran = list(Place(case.run).ranges(second.pid))
    if held and code == OK and ran:
        case.complain("code", "the first driver ended with 0 although it was taken over")
    if HELD in (first.code, second.code) and OK not in (first.code, second.code):
        case.complain("code", "both drivers were refused")


def _await_start(case: Case, driver: Driver) -> None:
    """Wait until a driver holds the run and has had blocks run, or has ended."""
    place, deadline = Place(case.run), time.monotonic() + 60
    while driver.poll() is None and time.monotonic() < deadline:
        if place.holder() == driver.pid:
            time.sleep(case.draw.uniform(0, 0.8))
            return
        time.sleep(0.02)


def stale_tasks(case: Case) -> None:
    """A child is stopped in a block, its driver killed, and another driver starts.

    Then the child goes on, with a task of the driver that is no more.
    """
    reference = case.lab.reference(case.store, case.pipeline, PLAIN)
    first = case.start()
    stopped: list = []
    if case.await_moment(first, reference):
        child = case.strike("child", signal.SIGSTOP, first)
        stopped = [*child, *(p for p in [each.parent() for each in child] if p)]
        if case.executor == "local":
            send(stopped[1:], signal.SIGSTOP)
        first.signal(signal.SIGKILL)
    case.end(first, {OK, KILLED})
    second = case.start()
    if case.executor == "local":
        case.end(second)
        before = Place(case.run).written()
        send(stopped, signal.SIGCONT)
        case.wait_for_processes()
        look_for_late_writes(case, before)
    else:
        _await_start(case, second)
        send(stopped, signal.SIGCONT)
        case.end(second)
    finish(case)


def two_starts(case: Case) -> None:
    """Two drivers are started at once, on one machine or on two; one of them is refused."""
    place = case.draw.choice(["", "another machine"])
    chosen = case.draw.choice(["none", case.executor])
    first = case.start()
    time.sleep(case.draw.choice([0.0, 0.0, case.draw.uniform(0, 0.4)]))
    second = case.start(executor=chosen, place=place)
    codes = [case.end(each, {OK, HELD}) for each in (first, second)]
    case.harmed += HELD in codes
    case.missed += HELD not in codes
    ran = [list(Place(case.run).ranges(each.pid)) for each in (first, second)]
    if codes == [HELD, HELD]:
        case.complain("code", "both drivers were refused")
    if all(ran):
        case.complain("code", f"both drivers had blocks run: they ended with {codes}")
    case.note = f"ended with {codes[0]} and {codes[1]}"
    if OK not in codes:
        case.resume()
    finish(case)


def two_runs(case: Case) -> None:
    """Two runs write one layer, the second with other parameters; then the first runs again."""
    other, shared = f"{case.run}-other", f"{case.run}-shared"
    kind = case.draw.choice(["killed", "stopped", "done"])
    second_parameters = Variant(1, case.draw.choice([0, 0, 1]))
    reference = case.lab.reference(case.store, case.pipeline, PLAIN)
    first = case.start(shared=shared)
    alive = kind != "done" and case.await_moment(first, reference)
    case.harmed += kind == "done"
    if alive and kind == "killed":
        first.signal(signal.SIGKILL)
        case.end(first, {OK, KILLED}, again=True)
    elif alive:
        _second_run_meets_a_stopped_one(case, first, (other, shared), second_parameters)
    else:
        case.end(first)
    arguments = {"run": other, "shared": shared}
    case.end(case.start(second_parameters, **arguments), run=other, again=True)
    _compare_both(case, other, shared, second_parameters)
    only = case.start(shared=shared, options=["--only", "again"], executor="none")
    case.end(only, {REFUSED}, again=True)  # the layer that `again` reads is the other run's
    case.end(case.start(shared=shared), again=True)
    _compare_both(case, case.run, shared, PLAIN)
    case.note = f"{kind} {case.note}"
    look_for_leftovers(case)


def _second_run_meets_a_stopped_one(
    case: Case, first: Driver, places: tuple[str, str], variant: Variant
) -> None:
    """While the first driver is stopped it owns the layer, if it has it: the second is refused."""
    other, shared = places
    first.signal(signal.SIGSTOP)
    time.sleep(PAUSE)
    owns = case.holds(first) and any("owner" in name for name in Place(shared).names())
    second = case.start(variant, run=other, shared=shared, executor="none")
    case.end(second, {HELD} if owns else {OK, HELD}, run=other)
    first.signal(signal.SIGCONT)
    case.end(first, {OK} if owns else {OK, HELD}, again=True)
    if owns:
        _compare_both(case, case.run, shared, PLAIN)


def _compare_both(case: Case, run: str, shared: str, variant: Variant) -> None:
    """Compare the layers of a run, and the one that it shares, with an undisturbed run."""
    compare(case, variant, run, layers=("index", "again"))
    compare_layer(case, variant, shared, "double")
