"""Who is next: users take turns."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Turns(Generic[Item]):
    """A queue in which every user has the same part, however much each of them asks for."""

    def __init__(self) -> None:
        self._of: OrderedDict[str, deque[Item]] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._of.values()))

    def put(self, user: str, item: Item) -> None:
        """To the end of what a user waits for."""
        self._of.setdefault(user, deque()).append(item)

    def take(self) -> Item:
        """The next one; its user is then behind all others."""
        user, items = self._of.popitem(last=False)
        item = items.popleft()
        if items:
            self._of[user] = items
        return item

    def drop(self, user: str, item: Item) -> None:
        """Nobody waits for it any more; nothing happens if it is not there."""
        items = self._of.get(user)
        if items and item in items:
            items.remove(item)
            if not items:
                del self._of[user]
