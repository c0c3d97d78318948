"""Picture files in archives: ArrayRecord, of which each record is the content of a file."""

from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

from airjax.data.source import Rows
from airjax.errors import InputError

PATTERN = "*.array_record"


def archives(folder: Path) -> list[Path]:
    """The ArrayRecord files in a folder, by name."""
    return sorted(folder.glob(PATTERN))


class Records(Sequence[Path]):
    """The pictures in ArrayRecord files, by paths that say where they are: the file, and the number
    of the record.

    Args:
        files: ArrayRecord files.

    Raises:
        InputError: if grain is not installed, a file is damaged, or there are no records.
    """

    def __init__(self, files: Sequence[Path]):
        try:
            from grain.sources import ArrayRecordDataSource
        except ImportError:
            rule = "needs grain to be read: pip install 'airjax[stream]'"
            raise InputError(str(files[0]), rule) from None
        self.files, self.first = list(files), [0]
        self.readers: dict[Path, Any] = {}
        for file in files:
            try:
                self.readers[file] = ArrayRecordDataSource([str(file)])
                self.first.append(self.first[-1] + len(self.readers[file]))
            except Exception as error:  # of the C++ library
                why = " ".join(str(error).split())
                raise InputError(str(file), f"must be a whole ArrayRecord file ({why})") from None
        if not len(self):
            rule = "must hold pictures: its ArrayRecord files have no records"
            raise InputError("data", rule, files[0].parent)

    def __len__(self) -> int:
        return self.first[-1]

    @overload
    def __getitem__(self, i: int) -> Path: ...
    @overload
    def __getitem__(self, i: slice) -> Sequence[Path]: ...
    def __getitem__(self, i: int | slice) -> Path | Sequence[Path]:
        if isinstance(i, slice):
            return Rows(self, range(len(self))[i])
        row = range(len(self))[i]
        n = bisect_right(self.first, row) - 1
        return self.files[n] / str(row - self.first[n])

    def contents(self, path: Path) -> bytes:
        """The bytes of a picture."""
        return self.readers[path.parent][int(path.name)]
