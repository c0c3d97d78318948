"""Results in parts: a folder of Parquet files written by many workers. An interrupted reading is
continued with the missing parts.

    OUT/plan.json                  what is read, with which settings, in how many parts
    OUT/objects/part-000000.parquet   a row an object
    OUT/broken/part-000000.parquet    a row a file that cannot be read, where there are any
    OUT/counts/part-000000.parquet    a row a picture; written last: the part is finished
"""

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import airjax
from airjax.errors import InputError
from airjax.prediction.places import Listing, Place
from airjax.prediction.predictor import Tables

PICTURES, BYTES = 1024, 64_000_000  # of a part, at most
PLAN = "plan.json"
FINISHED = re.compile(r"counts/part-(\d{6,})\.parquet")


@dataclass(frozen=True)
class Parts:
    """The parts of one reading.

    Attributes:
        out: the folder of results.
        files: the pictures of each part.
        finished: indices of the parts that are finished.
    """

    out: Place
    files: list[list[Path]]
    finished: frozenset[int]

    @classmethod
    def plan(cls, out: Place, pictures: Listing, settings: dict[str, Any]) -> "Parts":
        """The parts of these pictures; writes the plan, or continues an existing one.

        Args:
            out: folder of results: a new one, or one of the same pictures and settings.
            pictures: to read.
            settings: as JSON, all that the results depend on.

        Raises:
            InputError: if ``out`` holds anything else, or cannot be read or written.
        """
        files = divided(pictures)
        names = hashlib.sha256()
        for file, size in zip(pictures.files, pictures.sizes, strict=True):
            names.update(os.fsencode(file.relative_to(pictures.root)) + b"\0%d\0" % size)
        plan = {
            "version": airjax.__version__,
            "settings": settings,
            "pictures": len(pictures.files),
            "names_and_sizes": names.hexdigest(),
            "parts": len(files),
        }
        there = out.files()
        if PLAN in there:
            if _read(out) != plan:
                rule = (
                    "must be a new folder, or hold results of the same pictures, model and flags; "
                    f"its {PLAN} is of others"
                )
                raise InputError(out.argument, rule, out.name)
        elif there:
            raise InputError(
                out.argument, "must be a new folder (nothing is overwritten)", out.name
            )
        else:
            out.write(PLAN, (json.dumps(plan, indent=2) + "\n").encode())
        finished = {int(found[1]) for path in there if (found := FINISHED.fullmatch(path))}
        return cls(out, files, frozenset(finished))


def write(out: Place, part: int, tables: Tables) -> None:
    """Writes what was found in a part.

    Raises:
        InputError: if it cannot be written.
    """
    name = f"part-{part:06}.parquet"
    out.write_table(f"objects/{name}", tables.objects)
    if tables.broken.num_rows:
        out.write_table(f"broken/{name}", tables.broken)
    out.write_table(f"counts/{name}", tables.counts)


def divided(pictures: Listing) -> list[list[Path]]:
    """The pictures in parts of at most ``PICTURES`` pictures and, if they are several, ``BYTES``
    bytes."""
    parts, total = [list[Path]()], 0
    for file, size in zip(pictures.files, pictures.sizes, strict=True):
        if parts[-1] and (len(parts[-1]) == PICTURES or total + size > BYTES):
            parts.append([])
            total = 0
        parts[-1].append(file)
        total += size
    return parts


def _read(out: Place) -> Any:
    try:
        return json.loads(out.read(Path(PLAN)))
    except (OSError, ValueError) as error:
        raise InputError(out.argument, f"must have a readable {PLAN} ({error})", out.name) from None
