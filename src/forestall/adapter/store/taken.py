"""How far one stream was taken in. Appends are answered out of order where some wait for the disk."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Taken:
    count: int = 0
    """Every entry below this index was taken in."""
    last: str = ""
    """Names the entry at `count - 1`: what shows that this is still the same log."""
    ahead: dict[int, str] = field(default_factory=dict)

    def has(self, index: int) -> bool:
        return index < self.count or index in self.ahead

    def add(self, index: int, name: str) -> None:
        if index != self.count:
            self.ahead[index] = name
            return
        self.count, self.last = index + 1, name
        while self.ahead and self.count in self.ahead:
            self.last = self.ahead.pop(self.count)
            self.count += 1
