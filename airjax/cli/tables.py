"""Rows of CSV tables, and their numbers, with errors that name the table."""

import csv
import math
from pathlib import Path

from airjax.errors import InputError

Row = dict[str, str]
Page = int | None  # index in a file of several pictures


class Table:
    """A table that was read whole.

    Args:
        path: of the file.
        argument: what errors name.

    Attributes:
        columns: names of its columns.
        rows: with "" where a cell is missing.

    Raises:
        InputError: if it cannot be read.
    """

    def __init__(self, path: Path, argument: str):
        self.path, self.argument = path, argument
        try:
            with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
                reader = csv.DictReader(file, restval="")
                self.columns = list(reader.fieldnames or ())
                self.rows: list[Row] = list(reader)
        except (OSError, csv.Error) as error:
            why = (error.strerror if isinstance(error, OSError) else None) or error
            raise InputError(argument, f"cannot be read ({why})", path) from None

    def has(self, *columns: str) -> bool:
        """Whether it has all of these columns."""
        return set(columns) <= set(self.columns)

    def need(self, *columns: str) -> "Table":
        """Itself, if it has these columns.

        Raises:
            InputError: otherwise.
        """
        for name in columns:
            if name not in self.columns:
                raise InputError(self.argument, f"must have a column {name}", self.path)
        return self

    def numbers(self, row: Row, columns: tuple[str, ...]) -> list[float]:
        """Finite numbers of a row.

        Raises:
            InputError: if one is none.
        """
        found = []
        for name in columns:
            try:
                value = float(row[name])
            except ValueError:
                value = math.nan
            if not math.isfinite(value):
                rule = f"must have numbers as {name}, of {row['file']}"
                raise InputError(self.argument, rule, row[name] or "nothing")
            found.append(value)
        return found

    def picture(self, row: Row) -> tuple[str, Page]:
        """The file that a row is of, without ``./``, and its page if the row has one.

        Raises:
            InputError: if there is no name, or the page is no index.
        """
        name, page = row["file"].removeprefix("./"), row.get("page", "")
        if not name:
            raise InputError(self.argument, "must have a file's name in each row", self.path)
        if page == "":
            return name, None
        if not page.isdecimal():
            raise InputError(self.argument, f"must have pages from 0, of {name}", page)
        return name, int(page)
