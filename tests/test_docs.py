"""The documentation against the code: names exist, files exist, command lines parse."""

import dataclasses
import importlib
import re
import shlex
from pathlib import Path

import pytest

import airjax
from airjax.cli import main as cli
from airjax.config import Config
from airjax.training.runs import Run

ROOT = Path(airjax.__file__).parent.parent
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "docs/api").glob("*.md")]
)
TEXTS = {str(page.relative_to(ROOT)): page.read_text() for page in PAGES}
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "airjax").rglob("*.py")
)
BLOCK = re.compile(r"(?:^ {4}[^\n]*\n)+|^```\w*\n.*?^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"(?:^|&& |=\S+ |^srun )airjax (.*)")


def names(text: str) -> set[str]:
    """Dotted names of ours."""
    return set(re.findall(r"(?<![\w/.-])airjax(?:\.[A-Za-z_]\w*)+(?![\w/])", text))


def resolved(name: str) -> None:
    """Imports as much of a dotted name as is a module, and gets the rest from it."""
    parts, found = name.split("."), airjax
    for i, part in enumerate(parts[1:], 2):
        if ".".join(parts[:i]) in MODULES:
            found = importlib.import_module(".".join(parts[:i]))
        elif not (dataclasses.is_dataclass(found) and part in found.__dataclass_fields__):
            found = getattr(found, part)


def command_lines(text: str) -> list[str]:
    """The lines of code blocks that call the command line, continued lines joined."""
    lines = []
    for block in BLOCK.finditer(text):
        for line in block[0].replace("\\\n", " ").splitlines():
            line = line.partition(" #")[0].partition(" > ")[0]
            line = re.sub(r"[\[\]]", "", line).strip()  # optional flags, too
            command = COMMAND.search(line)
            if command and not command[1].startswith("COMMAND"):
                lines.append(command[1])
    return lines


LINES = [(page, line) for page, text in TEXTS.items() for line in command_lines(text)]


@pytest.mark.parametrize("page", TEXTS)
def test_names_resolve(page):
    for name in names(TEXTS[page]):
        resolved(name)


@pytest.mark.parametrize("page", TEXTS)
def test_files_exist(page):
    for path in re.findall(
        r"\b(?:airjax|tests|benchmarks|docs)/[\w/.]*\w\.(?:py|md|png)\b", TEXTS[page]
    ):
        assert (ROOT / path).is_file(), path


@pytest.mark.parametrize("page", TEXTS)
def test_no_sentence_is_a_comment(page):
    """In MyST, a line that begins with % is not shown."""
    assert re.findall(r"^\s*%(?!matplotlib|config).*", TEXTS[page], re.MULTILINE) == []


@pytest.mark.parametrize(("page", "line"), LINES)
def test_command_lines_parse(page, line, tmp_path, monkeypatch):
    """By the command line's own parser; what they ask for is not done."""
    parse, calls = cli.parse, []

    def only_parse(*args):
        calls.append(parse(*args))
        return lambda: None

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "parse", only_parse)
    arguments = shlex.split(line)
    if "--resume" in arguments:
        path = arguments.index("--resume") + 1
        arguments[path] = str(tmp_path / "run")  # it has to be there
        Run.create(Config(), Path(arguments[path]))
    cli.main(arguments)
    assert len(calls) == 1 or arguments[-1] in ("--help", "--version")


def test_flags_in_sentences_exist(capsys):
    for command in cli.COMMANDS:
        with pytest.raises(SystemExit):
            cli.main([command, "--help"])
    known = set(re.findall(r"(?<!\w)--?[a-z][\w-]*", capsys.readouterr().out))
    message = {flag for text in TEXTS.values() for flag in re.findall(r"`(--?[a-z][\w-]*)", text)}
    assert len(message) > 30
    assert message - known == set()


def test_what_is_tested_is_there():
    assert len(LINES) > 40
    assert {page for page, _ in LINES} >= {"README.md", "docs/pictures.md", "docs/reliability.md"}
    assert len(names(TEXTS["docs/paper.md"])) > 40


def test_wrong_ones_are_found():
    with pytest.raises(AttributeError):
        resolved("airjax.programs.model.Model.no_such_method")
    text = "x\n\n    airjax train --no-flag  # why\n    cd x && airjax train \\\n      --steps 3\n"
    lines = [line.split() for line in command_lines(text)]
    assert lines == [["train", "--no-flag"], ["train", "--steps", "3"]]
    with pytest.raises(SystemExit):
        cli.main(["train", "--no-flag"])


def test_every_module_has_its_place_in_the_api():
    pages = "\n".join(text for page, text in TEXTS.items() if page.startswith("docs/api/"))
    documented = re.findall(r"automodule:: (\S+)", pages)
    assert sorted(documented) == [n for n in MODULES if n not in ("airjax", "airjax.__main__")]


def test_versions_agree():
    assert f"\nversion: {airjax.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## {airjax.__version__}" in TEXTS["CHANGELOG.md"]
