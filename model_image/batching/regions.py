"""Which part of the cache belongs to whom: runs of places, each as long as its text needs by now."""

from bisect import insort
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Region:
    """A run of `size` places of the cache from `start`."""

    start: int
    size: int

    @property
    def end(self) -> int:
        """The place behind the last."""
        return self.start + self.size


class Regions:
    """
    Gives out runs of places, first fit, and joins what is given back with free neighbours.

    A text's places are one run, so that its attention reads one piece of memory; the price is that a text which
    outgrows its run may have to move.
    """

    def __init__(self, places: int) -> None:
        self._free = [Region(0, places)]

    def take(self, size: int) -> Region | None:
        """A run of `size` places; None where none is that long."""
        for index, region in enumerate(self._free):
            if region.size >= size:
                self._shorten(index, size)
                return Region(region.start, size)
        return None

    def extend(self, region: Region, size: int) -> Region | None:
        """The same run made `size` long where it lies; None if what follows it is not free."""
        more = size - region.size
        for index, free in enumerate(self._free):
            if free.start == region.end and free.size >= more:
                self._shorten(index, more)
                return Region(region.start, size)
        return None

    def would_fit(self, size: int, freed: Iterable[Region]) -> bool:
        """Whether there would be a run of `size` places if these regions were given back as well."""
        longest, run = 0, Region(0, 0)
        for region in sorted([*self._free, *freed]):
            run = Region(run.start, run.size + region.size) if region.start == run.end else region
            longest = max(longest, run.size)
        return longest >= size

    def give_back(self, region: Region) -> None:
        """Frees a run."""
        insort(self._free, region)
        index = self._free.index(region)
        for neighbour in (index, index - 1):
            if 0 <= neighbour < len(self._free) - 1 and self._free[neighbour].end == self._free[neighbour + 1].start:
                first, second = self._free[neighbour], self._free.pop(neighbour + 1)
                self._free[neighbour] = Region(first.start, first.size + second.size)

    def _shorten(self, index: int, size: int) -> None:
        region = self._free.pop(index)
        if region.size > size:
            self._free.insert(index, Region(region.start + size, region.size - size))
