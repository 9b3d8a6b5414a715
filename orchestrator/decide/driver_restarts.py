"""The driver's process has ended: is that the run's end, or is it to be started again?

Rule: an end that the driver chose is the run's. It says so itself: a number alone doesn't tell,
since libraries end a process with 1, too (Ray does, when it has lost its cluster). A driver that
was killed, or that met an error of its own, chose none: it's started again, with a back-off, unless
it was asked to stop or dies too often.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.exit_codes import ended_text

DRIVER_DEATH = "TFRESUME_DRIVER_DEATH"
"""The variable in which a supervisor tells a driver how the one before it ended (``Death``)."""
DRIVER = "the driver"
CRASHED = 70
"""The exit code of a driver that met an error of its own; its workers live, and the next one goes
on with them. It is EX_SOFTWARE of sysexits.h, which neither Python nor Ray ends with of its own
accord.
"""
WINDOW_S = 3600.0
"""Deaths are counted in an hour, as the losses of workers are."""
MOST_DEATHS = 20
"""One in three minutes: more often than any platform takes a machine away, and each death may cost
steps.
"""
QUICK_S = 20.0
"""A driver that dies sooner than this has hardly begun: importing Ray, connecting and reading the
output take that long where they are slow.
"""
MOST_QUICK_DEATHS = 4
"""With the delays between them (0.2, 0.8 and 3.2 s) a store or a head that is back within seconds
is met again; what still kills the driver then does so every time.
"""
FIRST_DELAY_S, BACK_OFF = 0.2, 4.0
"""Too short to be noticed, since most deaths are single; each quick death after it is waited for so
many times as long.
"""
LONGEST_DELAY_S = FIRST_DELAY_S * BACK_OFF ** (MOST_QUICK_DEATHS - 2)
"""After the last quick death that isn't one too many. Whoever waits for a successor counts on it."""


@dataclass(frozen=True)
class End:
    """The supervisor ends with this code."""

    code: int
    reason: str = ""


@dataclass(frozen=True)
class Death:
    """How the driver before this one ended, as whoever started it knows.

    Attributes:
        code: its exit code, negative for a signal.
        restart: which restart within an hour this one is, from 1; more than ``allowed`` end the run.
    """

    code: int
    restart: int
    allowed: int = MOST_DEATHS

    def __str__(self) -> str:
        return f"{self.code} {self.restart} {self.allowed}"

    @classmethod
    def parse(cls, text: str) -> Death | None:
        """What ``str`` made; None for anything else."""
        words = text.split()
        if len(words) != 3 or not all(word.removeprefix("-").isdecimal() for word in words):
            return None
        return cls(*map(int, words))


@dataclass(frozen=True)
class StartAgain:
    """Start the driver again after ``delay_s``."""

    delay_s: float
    deaths: tuple[tuple[float, float], ...]

    def death(self, code: int) -> Death:
        """What the next driver is told of this one's end."""
        return Death(code, len(self.deaths))


def after_exit(
    code: int,
    lived_s: float,
    stopping_code: int | None,
    deaths: tuple[tuple[float, float], ...],
    now_s: float,
    *,
    chosen: bool,
    who: str = DRIVER,
) -> End | StartAgain:
    """What follows from the driver's end.

    Args:
        code: its exit code; negative for a signal, as ``subprocess`` has it.
        lived_s: how long it lived.
        stopping_code: 130 or 143 where it had been asked to stop by that signal.
        deaths: (when, how long it had lived) of earlier deaths, as the last answer returned them.
        chosen: whether the driver said that it ends with this code.
        who: what the reason calls it; an evaluator that follows a run is treated alike.
    """
    if chosen:
        return End(code)
    if stopping_code is not None:
        return End(
            stopping_code,
            f"{who} ended ({ended_text(code)}) while it was stopping; what is committed stands",
        )
    recent = (*(death for death in deaths if now_s - death[0] < WINDOW_S), (now_s, lived_s))
    quick = 0
    for _, lived in reversed(recent):
        if lived >= QUICK_S:
            break
        quick += 1
    if quick >= MOST_QUICK_DEATHS:
        return End(
            1,
            f"{who} died {quick} times in a row within {QUICK_S:.0f} s of its start ({ended_text(code)})",
        )
    if len(recent) > MOST_DEATHS:
        return End(1, f"{who} died {len(recent)} times within an hour ({ended_text(code)})")
    return StartAgain(FIRST_DELAY_S * BACK_OFF ** max(0, quick - 1), recent)
