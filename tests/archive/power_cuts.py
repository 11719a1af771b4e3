"""What a disk may hold after a power cut, from a record of the calls that `recorded_calls.c` makes.

The model is that of the crash tests of SQLite and of ALICE: what was synced is there; of what was written to a file
since, each sector is there or not, whatever became of others; new names come in the order in which they were given,
but do not wait for data. A sync takes in what was called before it began.
"""

import random
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, TypeVar

import attrs

T = TypeVar("T")

_HEAD = struct.Struct("=ciqII")
_SECTOR = 512
_FOLDER = "."


@attrs.frozen
class Call:
    """A recorded call: `w`rite, `t`runcate, `c`reate, `r`ename, `u`nlink, a sync `b`egins, and has `e`nded."""

    kind: str
    thread: int
    at: int
    name: str
    data: bytes


def read_calls(record: Path) -> Iterator[Call]:
    """Yield the calls in the order in which they took effect."""
    data, at = record.read_bytes(), 0
    while at < len(data):
        kind, thread, place, of_name, of_data = _HEAD.unpack_from(data, at)
        at += _HEAD.size + of_name + of_data
        name, written = data[at - of_data - of_name : at - of_data], data[at - of_data : at]
        yield Call(kind=kind.decode(), thread=thread, at=place, name=name.decode(), data=written)


@attrs.define(eq=False)
class _Unsynced(Generic[T]):
    """Changes to a file, or to the folder, that may be there after a power cut or not."""

    changes: list[T] = attrs.field(factory=list)
    synced: int = 0

    @property
    def count(self) -> int:
        """How many changes there ever were."""
        return self.synced + len(self.changes)

    def taken(self, count: int) -> list[T]:
        """Take, of the first *count* that there ever were, what no sync took yet."""
        new = max(0, count - self.synced)
        self.synced += new
        taken, self.changes = self.changes[:new], self.changes[new:]
        return taken


@attrs.define(eq=False)
class _File:
    content: bytearray = attrs.field(factory=bytearray)
    unsynced: _Unsynced[Call] = attrs.field(factory=_Unsynced)


@attrs.frozen
class _Naming:
    """A change of the folder: a name that goes, a name that comes, and the file that has it then."""

    goes: str | None
    comes: str | None
    file: _File

    def carry_out(self, names: dict[str, _File]) -> None:
        if self.goes is not None:
            names.pop(self.goes, None)
        if self.comes is not None:
            names[self.comes] = self.file


class Disk:
    """A folder on a disk, at a moment.

    Args:
        files: What is there at the beginning, synced.
        syncs: Whether to sync has any effect.
    """

    def __init__(self, files: Mapping[str, bytes] = MappingProxyType({}), *, syncs: bool = True) -> None:
        self._names = {name: _File(bytearray(content)) for name, content in files.items()}
        self._synced_names = dict(self._names)
        self._namings = _Unsynced[_Naming]()
        self._begun: dict[int, int] = {}
        self._syncs = syncs

    def carry_out(self, call: Call) -> None:
        """Let one more call have happened."""
        match call.kind:
            case "w" | "t":
                self._names[call.name].unsynced.changes.append(call)
            case "c":
                self._name(_Naming(None, call.name, _File()))
            case "r":
                self._name(_Naming(call.name, call.data.decode(), self._names[call.name]))
            case "u":
                self._name(_Naming(call.name, None, self._names[call.name]))
            case "b":
                self._begun[call.thread] = self._unsynced(call.name).count
            case "e" if self._syncs:
                self._sync(call.name, self._begun.pop(call.thread))

    def after_cut(self, chance: random.Random) -> dict[str, bytes]:
        """Return what may be there when the power comes back: name -> content."""
        names = dict(self._synced_names)
        namings = self._namings.changes
        for naming in namings[: chance.randint(0, len(namings))]:
            naming.carry_out(names)
        share = chance.choice((0.0, 0.5, 0.95, 1.0))
        return {name: _some_of(file, share, chance) for name, file in names.items()}

    def now(self) -> dict[str, bytes]:
        """Return what is there as long as the power stays: name -> content."""
        return {name: _some_of(file, 1.0, random.Random(0)) for name, file in self._names.items()}

    def _unsynced(self, name: str) -> _Unsynced[Any]:
        return self._namings if name == _FOLDER else self._names[name].unsynced

    def _sync(self, name: str, count: int) -> None:
        if name == _FOLDER:
            for naming in self._namings.taken(count):
                naming.carry_out(self._synced_names)
        else:
            file = self._names[name]
            for call in file.unsynced.taken(count):
                _change(file.content, call)

    def _name(self, naming: _Naming) -> None:
        naming.carry_out(self._names)
        self._namings.changes.append(naming)


def _change(content: bytearray, call: Call) -> None:
    if call.kind == "t":
        content[call.at :] = bytes(max(0, call.at - len(content)))
    else:
        content += bytes(max(0, call.at - len(content)))
        content[call.at : call.at + len(call.data)] = call.data


def _some_of(file: _File, share: float, chance: random.Random) -> bytes:
    """Return what is there of a file, when of each change since its sync about a *share* is."""
    content = bytearray(file.content)
    for call in file.unsynced.changes:
        if chance.random() < share:
            _change(content, call)
        elif call.kind == "w" and share:
            for sector in _sectors(call):
                if chance.random() < share:
                    _change(content, sector)
    return bytes(content)


def _sectors(call: Call) -> Iterator[Call]:
    start = call.at
    while start < call.at + len(call.data):
        end = min(start // _SECTOR * _SECTOR + _SECTOR, call.at + len(call.data))
        yield attrs.evolve(call, at=start, data=call.data[start - call.at : end - call.at])
        start = end
