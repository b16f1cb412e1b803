"""A process that lets commands of p2 be killed or fail when asked to: a line of JSON in, a line out.

LD_PRELOAD=layer.so python tests/trust/killing.py FOLDER
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import scenarios
import shortening
from scenarios import READS, SCENARIOS, Scenario
from victims import FAIL, FAIL_ON, KILL, STOP, TEAR, VANISH, Ended, Fault, Victims

SHOWN = 20  # problems that are told
ERRORS = {"full disk": "ENOSPC", "quota": "EDQUOT", "read-only": "EROFS", "EIO": "EIO"}
SPACE = ("open ", "write ", "mkdir ", "fsync ")  # what a full disk refuses


class Killing:
    """Runs scenarios, each from the same beginning.

    Args:
        folder: for their files.

    Attributes:
        until: when no further case is begun, in seconds of the epoch; None: all are.
    """

    until: float | None = None

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.victims = Victims(folder)

    @functools.cache  # noqa: B019 - there is one of these
    def begun(self, scenario: Scenario) -> tuple[Path, dict[str, Any], Ended]:
        """What is there before the command, what it must leave, and how it ends if nothing happens."""
        name = hashlib.sha256(scenario.name.encode()).hexdigest()[:8]
        before, after = self.folder / f"{name}-before", self.folder / f"{name}-after"
        before.mkdir()
        for step in scenario.before:
            if callable(step):
                step(before)
            else:
                self.expect(step, before)
        shortening.warm(scenario.command, scenarios.copy(before, after))
        ended = self.expect(scenario.command, scenarios.copy(before, after), Fault())
        return before, scenarios.content(after), ended

    def expect(self, command: str, folder: Path, fault: Fault | None = None) -> Ended:
        ended = self.victims.call(command.split(), folder, fault)
        assert ended.code == 0, f"p2 {command}: {ended.code}: {ended.said}"
        return ended

    def prepare(self, name: str) -> dict[str, Any]:
        """Begin a scenario, so that what follows takes no longer than its own time."""
        self.begun(named(name))
        return {}

    def kills(self, name: str, most: int, seed: str) -> dict[str, Any]:
        """Kill before operations and within writes: all of them, or so many."""
        scenario = named(name)
        operations = self.begun(scenario)[2].operations
        cases = [(f"killed before {what}", Fault(KILL, at)) for at, what in enumerate(operations)]
        cases += [
            (f"killed within {what}", Fault(TEAR, at))
            for at, what in enumerate(operations)
            if what.startswith("write ")
        ]
        return self._tried(cases, most, seed, lambda fault: self._killed(scenario, fault, None))

    def signals(self, name: str, times: int, seed: str, by: str) -> dict[str, Any]:
        """Send a signal after random times."""
        scenario, rng = named(name), random.Random(seed)
        seconds = self.begun(scenario)[2].seconds
        when = [(rng.uniform(0, seconds), signal.Signals[by]) for _ in range(times)]
        cases = [(f"{by} after {after[0]:.3f} s", after) for after in when]
        return self._tried(cases, times, seed, lambda after: self._killed(scenario, None, after))

    def faults(self, name: str, kind: str, most: int, seed: str) -> dict[str, Any]:
        """Let single operations, reading included, and all from one on, fail; or let files vanish."""
        scenario = named(name)
        before = self.begun(scenario)[0]
        folder = scenarios.copy(before, self.folder / "case")
        operations = self.expect(scenario.command, folder, Fault(reads=True)).operations
        cases = []
        for at, what in enumerate(operations):
            reads = what.startswith(("read ", "open to read "))
            if kind == "vanishing files":
                if what.startswith("open to read ") and not what.endswith(("/", " ")):
                    cases.append((f"{what} is gone", Fault(VANISH, at, reads=True)))
            elif kind == "EIO":
                cases.append((f"failed: {what}", Fault(FAIL, at, errno.EIO, True)))
            elif not reads and (kind == "read-only" or what.startswith(SPACE)):
                number = getattr(errno, ERRORS[kind])
                changes = sum(not w.startswith(("read ", "open to read ")) for w in operations[:at])
                cases += [(f"from {what} on", Fault(FAIL_ON, changes, number))]
        return self._tried(cases, most, seed, lambda fault: self._failed(scenario, fault))

    def clock(self, name: str, most: int, seed: str) -> dict[str, Any]:
        """Set the clock back by ten years while the command runs."""
        scenario = named(name)
        cases = [
            (f"after {n} looks", Fault(clock=(n, 10 * 365 * 86400))) for n in (0, 1, 2, 3, 5, 8, 13, 21, 50)
        ]
        return self._tried(cases, most, seed, lambda fault: self._unharmed(scenario, fault))

    def memory(self, name: str, most: int, seed: str) -> dict[str, Any]:
        """Let the command run out of address space."""
        scenario = named(name)
        self.begun(scenario)
        cases = [
            (f"{n} MiB", Fault(memory=n << 20)) for n in (0, 1, 2, 3, 5, 8, 12, 16, 24, 32, 48, 64, 96, 128)
        ]
        return self._tried(cases, most, seed, lambda fault: self._failed(scenario, fault))

    def starved(self, name: str, most: int, seed: str) -> dict[str, Any]:
        """Refuse the compiled decoder memory and threads, from each request on."""
        scenario = named(name)
        self.begun(scenario)
        cases = [(f"{n} requests granted", Fault(starve=n)) for n in range(40)]
        return self._tried(cases, most, seed, lambda fault: self._failed(scenario, fault))

    def pairs(self, name: str, most: int, seed: str) -> dict[str, Any]:
        """Call the command a second time while the first stands still before one of its operations."""
        scenario = named(name)
        operations = self.begun(scenario)[2].operations
        cases = [(f"at {what}", Fault(STOP, at)) for at, what in enumerate(operations)]
        locking = [at for at, what in enumerate(operations) if what.endswith("lock")]
        held = range(locking[0] + 1, locking[-1]) if locking else range(0)

        def attempt(fault: Fault) -> Iterator[str]:
            said = [*self._second(scenario, fault)]
            if fault.at in held and "+refused" not in said:
                yield "the second was not refused"
            yield from said

        return self._tried(cases, most, seed, attempt)

    def _tried(
        self,
        cases: Iterable[tuple[str, Any]],
        most: int,
        seed: str,
        attempt: Callable[[Any], Iterator[str]],
    ) -> dict[str, Any]:
        """Try cases, in any order: how many, what was wrong, and how often each other thing was said."""
        cases = [*cases]
        problems: list[str] = []
        said: Counter[str] = Counter()
        count = 0
        for where, case in random.Random(seed).sample(cases, min(most, len(cases))):
            if count and self.until is not None and time.time() >= self.until:
                break
            count += 1
            try:
                found = [*attempt(case)]
            except Exception as error:
                found = [f"{type(error).__name__}: {error}"]
            said.update(one[1:] for one in found if one.startswith("+"))
            problems += [f"{where}: {one}" for one in found if not one.startswith("+")]
        return {"tried": count, "problems": problems[:SHOWN], "said": said}

    def _prepared(self, scenario: Scenario) -> tuple[Path, dict[str, str]]:
        folder = scenarios.copy(self.begun(scenario)[0], self.folder / "case")
        return folder, scenarios.digests(folder, scenario.keeps)

    def _killed(
        self, scenario: Scenario, fault: Fault | None, after: tuple[float, int] | None
    ) -> Iterator[str]:
        folder, kept = self._prepared(scenario)
        ended = self.victims.call(scenario.command.split(), folder, fault, after)
        if (fault is not None and ended.code != -signal.SIGKILL) or "Traceback" in ended.said:
            yield f"ended with {ended.code}: {ended.said[-2000:]}"
        yield from scenarios.broken(folder)
        yield from lost(kept, folder, "by the kill")
        yield from self._goes_on(scenario, folder, kept)

    def _failed(self, scenario: Scenario, fault: Fault) -> Iterator[str]:
        folder, kept = self._prepared(scenario)
        ended = self.victims.call(scenario.command.split(), folder, fault)
        refused = ended.code == 1 and "p2: " in ended.said and "Traceback" not in ended.said
        if ended.code and not refused:
            yield f"ended with {ended.code}, and no sentence: {ended.said[-2000:]}"
        elif refused:
            yield f"+{ended.said.splitlines()[-1]}"
        if fault.how == VANISH:
            return  # and so has what the next run needs
        yield from scenarios.broken(folder)
        yield from lost(kept, folder, "by the fault")
        done = scenarios.content(folder) == self.begun(scenario)[1]
        if refused or (not done and "cannot " not in ended.said):  # of something that it did without
            yield from self._goes_on(scenario, folder, kept)

    def _unharmed(self, scenario: Scenario, fault: Fault) -> Iterator[str]:
        folder, kept = self._prepared(scenario)
        ended = self.victims.call(scenario.command.split(), folder, fault)
        if ended.code:
            yield f"ended with {ended.code}: {ended.said[-2000:]}"
        yield from lost(kept, folder, "by the clock")
        yield from self._differences(scenario, folder)

    def _second(self, scenario: Scenario, fault: Fault) -> Iterator[str]:
        folder, kept = self._prepared(scenario)
        started, child = self.victims.start(scenario.command.split(), folder, fault)
        second = None
        if self.victims.stopped(child):
            second = self.victims.call(scenario.command.split(), folder)
            os.kill(child, signal.SIGCONT)
        while (first := self.victims.ended(started, child, True)) is None:
            time.sleep(0.0005)
        if second is not None and "is being written by another p2" in second.said:
            yield "+refused"
        if second is not None and second.code == 1:
            if "p2: " not in second.said or "Traceback" in second.said:
                yield f"the second: {second.said[-2000:]}"
            if first.code:
                yield f"the first: {first.code}, {first.said[-2000:]}"
            yield from self._differences(scenario, folder)
        else:
            both = [one for one in (first, second) if one is not None]
            for one in both:
                if one.code not in (0, 1) or "Traceback" in one.said:
                    yield f"ended with {one.code}: {one.said[-2000:]}"
            if all(one.code for one in both):
                yield f"neither did it: {first.said[-1000:]}"
        yield from scenarios.broken(folder)
        yield from lost(kept, folder, "by two at once")

    def _goes_on(self, scenario: Scenario, folder: Path, kept: dict[str, str]) -> Iterator[str]:
        """What is wrong after a person has gone on."""

        def call(command: str) -> Ended:
            gone_on = self.victims.call(command.split(), folder)
            if gone_on.code not in (0, 1, 2):
                raise AssertionError(f"p2 {command}: {gone_on.code}: {gone_on.said[-2000:]}")
            return gone_on

        try:
            if scenario.next is not None:
                scenario.next(call)
            elif (ended := call(scenario.command)).code:
                yield f"the next run: {ended.said}"
        except AssertionError as error:
            yield f"the next run: {error}"
        yield from lost(kept, folder, "by the next run")
        yield from self._differences(scenario, folder)

    def _differences(self, scenario: Scenario, folder: Path) -> Iterator[str]:
        expected, found = self.begun(scenario)[1], scenarios.content(folder)
        for name in sorted({*found, *expected}):
            if name not in expected:
                if not any(part in name for part in scenario.may_be_more):
                    yield f"{name} is left over"
            elif name not in found:
                yield f"{name} is missing"
            elif found[name] != expected[name]:
                yield f"{name} differs{scenarios.difference(found[name], expected[name])}"


def lost(kept: dict[str, str], folder: Path, by: str) -> Iterator[str]:
    there = scenarios.digests(folder, ("**/*",))
    for sha, name in kept.items():
        if sha not in there:
            yield f"{name} was lost {by}"


def named(name: str) -> Scenario:
    [found] = [scenario for scenario in (*SCENARIOS, *READS) if scenario.name == name]
    return found


def main() -> None:
    folder = Path(sys.argv[1])
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    shortening.shorten()
    killing = Killing(folder)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    with contextlib.suppress(KeyboardInterrupt):
        for line in sys.stdin:
            asked = json.loads(line)
            killing.until = asked.pop("until", None)
            told = getattr(killing, asked.pop("do"))(**asked)
            print(json.dumps(told), file=answers, flush=True)


if __name__ == "__main__":
    main()
