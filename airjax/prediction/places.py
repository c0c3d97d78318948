"""Folders on this machine, or wherever pyarrow's file systems reach: ``s3://``, ``gs://`` ..."""

import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from uuid import uuid4

from airjax.data.decode import Contents
from airjax.data.files import SUFFIXES, Found, is_hidden, picture_files
from airjax.errors import InputError

if TYPE_CHECKING:
    import pyarrow
    from pyarrow.fs import FileInfo, FileSystem

URL = re.compile(r"[a-z][a-z0-9+.-]+://")


def is_url(place: str) -> bool:
    """Whether a place is a URL, and not a path of this machine."""
    return URL.match(place) is not None


@dataclass(frozen=True)
class Place:
    """A folder. It can be pickled.

    Attributes:
        name: its path or URL, as the user gave it.
        argument: that it was given by, for errors.
    """

    name: str
    argument: str

    @cached_property
    def _opened(self) -> "tuple[FileSystem, PurePosixPath]":
        from pyarrow.fs import FileSystem

        with self._readable():
            system, path = FileSystem.from_uri(
                self.name if is_url(self.name) else os.path.abspath(self.name)
            )
        return system, PurePosixPath(path)

    def __getstate__(self) -> dict[str, str]:
        return {"name": self.name, "argument": self.argument}

    def files(self) -> "dict[str, FileInfo]":
        """All files in it and below, by their path in it; none if it does not exist.

        Raises:
            InputError: if it cannot be read.
        """
        from pyarrow.fs import FileSelector, FileType

        system, top = self._opened
        with self._readable():
            found = system.get_file_info(
                FileSelector(str(top), allow_not_found=True, recursive=True)
            )
        files = [each for each in found if each.type == FileType.File]
        return {str(PurePosixPath(file.path).relative_to(top)): file for file in files}

    def read(self, path: Path) -> bytes:
        """The content of a file in it.

        Raises:
            OSError: if it cannot be read.
        """
        system, top = self._opened
        with system.open_input_file(str(top / path)) as file:
            return file.read()

    def write(self, path: str, content: bytes) -> None:
        """Writes a file in it, which is complete or not there: object stores write a file at once,
        and in folders it gets its name at the end.

        Raises:
            InputError: if it cannot be written.
        """
        from pyarrow.fs import LocalFileSystem

        system, top = self._opened
        target = top / path
        try:
            if not isinstance(system, LocalFileSystem):
                with system.open_output_stream(str(target)) as file:
                    file.write(content)
                return
            system.create_dir(str(target.parent), recursive=True)
            temporary = target.with_name(f".{target.name}.{uuid4().hex}.tmp")
            try:
                with open(temporary, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, target)
            finally:
                Path(temporary).unlink(missing_ok=True)
        except OSError as error:
            raise InputError(
                self.argument, f"cannot be written ({_reason(error)})", self.name
            ) from None

    def write_table(self, path: str, table: "pyarrow.Table") -> None:
        """Writes a table as Parquet; see `write`."""
        from pyarrow import parquet

        content = io.BytesIO()
        parquet.write_table(table, content)
        self.write(path, content.getvalue())

    @contextmanager
    def _readable(self) -> Iterator[None]:
        from pyarrow import ArrowException

        try:
            yield
        except (OSError, ArrowException) as error:
            rule = f"cannot be read ({_reason(error)})"
            raise InputError(self.argument, rule, self.name) from None


@dataclass(frozen=True)
class Listing:
    """The pictures in a folder.

    Attributes:
        files: their paths.
        sizes: bytes of each file.
        root: that their names in the results are relative to.
        contents: gives the bytes of a file; None for files of this machine.
        passed_over: a line for each kind of files that are no pictures.
    """

    files: list[Path]
    sizes: list[int]
    root: Path
    contents: Contents | None
    passed_over: list[str]

    @classmethod
    def of(cls, name: str, argument: str) -> "Listing":
        """The pictures in the folder, or at the URL, of this name.

        Raises:
            InputError: if there are none, or it cannot be read; it names ``argument``.
        """
        if not is_url(name):
            folder = Path(os.path.abspath(name))  # the same on all machines that share it
            found = picture_files(folder, argument)
            sizes = [os.stat(file).st_size for file in found.files]
            root = folder if folder.is_dir() else folder.parent
            return cls(found.files, sizes, root, None, found.report())
        place = Place(name, argument)
        files, passed_over = place.files(), dict[str, list[Path]]()
        kept = dict[Path, int]()
        for path, info in sorted(files.items()):
            if any(map(is_hidden, PurePosixPath(path).parts)):
                passed_over.setdefault("hidden files", []).append(Path(path))
            elif PurePosixPath(path).suffix.lower() not in SUFFIXES:
                kind = f"files that are not {', '.join(SUFFIXES)}"
                passed_over.setdefault(kind, []).append(Path(path))
            else:
                kept[Path(path)] = info.size
        if not kept:
            rule = f"must hold pictures ({', '.join(SUFFIXES)}); there are none"
            raise InputError(argument, rule, name)
        report = Found([], passed_over).report()
        return cls([*kept], [*kept.values()], Path(), place.read, report)


def _reason(error: Exception) -> str:
    """What went wrong, in one line."""
    known = error.strerror if isinstance(error, OSError) else None
    return known or " ".join(str(error).split()) or type(error).__name__
