"""Who comes next among calls that wait for a turn: by priority, round robin between keys, first come first served."""

from __future__ import annotations

from collections import OrderedDict, deque
from enum import IntEnum
from typing import Generic, TypeVar

T = TypeVar("T")


class Priority(IntEnum):
    """How urgent a call is, by its caller. A lower number comes first."""

    INTERACTIVE = 0
    NORMAL = 1
    BATCH = 2


class Turns(Generic[T]):
    """A waiting line. Each key of a priority has its turn before any of them has a second one."""

    def __init__(self) -> None:
        self._lines: dict[Priority, OrderedDict[str, deque[T]]] = {priority: OrderedDict() for priority in Priority}
        self._length = 0

    def __repr__(self) -> str:
        return f"<Turns {self._length} waiting>"

    def __len__(self) -> int:
        return self._length

    def add(self, key: str, priority: Priority, waiter: T) -> None:
        """Join the line of one's key."""
        self._lines[priority].setdefault(key, deque()).append(waiter)
        self._length += 1

    def first(self) -> T | None:
        """Who is next, still waiting."""
        for line in self._lines.values():
            for waiters in line.values():
                return waiters[0]
        return None

    def pop(self) -> T:
        """Take the next one out; the keys behind his come before his next. The line must not be empty."""
        for line in self._lines.values():
            if line:
                key, waiters = next(iter(line.items()))
                found = waiters.popleft()
                if waiters:
                    line.move_to_end(key)
                else:
                    del line[key]
                self._length -= 1
                return found
        raise IndexError("nobody waits")

    def leave(self, key: str, priority: Priority, waiter: T) -> bool:
        """Take one out that waits no longer; false if he is not in the line."""
        waiters = self._lines[priority].get(key)
        if waiters is None or waiter not in waiters:
            return False
        waiters.remove(waiter)
        if not waiters:
            del self._lines[priority][key]
        self._length -= 1
        return True
