import threading
from threading import Event

from metacog.train.stall import Pulse, Watchdog


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def pulse_of(clock: Clock, *, steps: int = 10) -> Pulse:
    pulse = Pulse(factor=20.0, least=30.0, clock=clock)
    for _ in range(steps):
        clock.now += 2
        assert pulse.beat() is None
    return pulse


def test_a_step_is_late_after_so_many_times_the_usual_and_is_told_once() -> None:
    clock = Clock()
    pulse = pulse_of(clock)
    clock.now += 40
    assert pulse.overdue() is None
    clock.now += 1
    assert pulse.overdue() == (41, 2)
    clock.now += 100
    assert pulse.overdue() is None, "it has been told"
    assert pulse.beat() == 141
    assert pulse.beat() is None
    clock.now += 500
    assert pulse.overdue() is not None, "a second stall is another one"


def test_fast_steps_still_leave_time_for_an_evaluation() -> None:
    clock = Clock()
    pulse = Pulse(factor=20.0, least=30.0, clock=clock)
    for _ in range(10):
        clock.now += 0.01
        pulse.beat()
    clock.now += 30
    assert pulse.overdue() is None
    clock.now += 1
    assert pulse.overdue() is not None


def test_what_is_no_step_is_a_sign_of_life_and_no_step_time() -> None:
    clock = Clock()
    pulse = pulse_of(clock)
    for _ in range(30):
        clock.now += 35
        pulse.beat(is_step=False)
    clock.now += 41
    assert pulse.overdue() == (41, 2)


def test_nothing_is_late_before_steps_are_known() -> None:
    clock = Clock()
    pulse = pulse_of(clock, steps=4)
    clock.now += 10_000
    assert pulse.overdue() is None


def test_the_watchdog_tells_and_ends_with_its_block() -> None:
    clock, heard = Clock(), Event()
    pulse = pulse_of(clock)
    clock.now += 50
    found: list[tuple[float, float]] = []

    def tell(waited: float, usual: float) -> None:
        found.append((waited, usual))
        heard.set()

    with Watchdog(pulse, tell, every=0.005):
        assert heard.wait(30)
    assert found == [(50, 2)]
    assert not is_watching()


def test_a_watchdog_with_nothing_to_tell_ends_at_once() -> None:
    with Watchdog(Pulse(), refuse, every=3600.0):
        assert is_watching()
    assert not is_watching()


def is_watching() -> bool:
    return "metacog-watchdog" in {thread.name for thread in threading.enumerate()}


def refuse(waited: float, usual: float) -> None:
    raise AssertionError(f"nothing was late, but {waited} s of {usual} s were told")
