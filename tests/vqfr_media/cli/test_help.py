"""What `--help` shows: every option the parser has, the usual ones first, in a person's words."""

import re
from collections.abc import Callable

import pytest

from vqfr_media.cli import parsing
from vqfr_media.cli.help import help_lines
from vqfr_media.cli.help_groups import COMMANDS, CommandHelp
from vqfr_media.cli.parsing import parse

FLAG = r"(?<![\w-])--[a-z][a-z-]+"


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What a command line prints before it ends with code 0."""

    def run(*words: str) -> str:
        with pytest.raises(SystemExit) as caught:
            parse(words)
        assert caught.value.code == 0
        return capsys.readouterr().out

    return run


def flags(text: str) -> set[str]:
    """The options that have a line of their own."""
    found = re.findall(rf"^[│ ]*(?:-\w[^-]*)?({FLAG})", text, re.MULTILINE)
    return set(found) - {"--help", "--help-all"}


@pytest.mark.parametrize("command", COMMANDS)
def test_all_options_of_the_parser_are_shown(
    command: str, shown: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = shown(command, "--help-all")
    monkeypatch.setattr(parsing, "_GROUPED", {})
    parsers = shown(command, "--help")
    assert flags(ours) == flags(parsers) != set()
    assert not re.search(r"None|\(default: |options\.[a-z]|UseAppendAction|\.0\b(?! )", ours)


@pytest.mark.parametrize("command", COMMANDS)
def test_basic_options_come_first_and_experts_are_named(
    command: str, shown: Callable[..., str]
) -> None:
    basic, everything = shown(command, "-h"), shown(command, "x", "--help-all")
    assert flags(basic) < flags(everything)
    assert basic.count("\n  vqfr-media ") == 2  # examples
    hidden = basic.partition("shown by --help-all: ")[2].replace("\n", " ").rstrip(". ")
    for title in hidden.split("; "):
        assert f"\n{title}:\n" in everything
        assert f"\n{title}:\n" not in basic


@pytest.mark.parametrize("command", COMMANDS)
def test_the_examples_can_be_parsed(command: str) -> None:
    for example in COMMANDS[command].examples:
        program, *words = example.replace("'", "").split()
        assert program == "vqfr-media"
        assert type(parse(words)).__name__ == f"{command.capitalize()}Command"


def test_defaults_are_told_in_words(shown: Callable[..., str]) -> None:
    text = " ".join(shown("restore", "--help-all").split())
    assert "--strength NUMBER How much of a restored face shows" in text
    assert "Default: 24." in text
    assert "--quiet Print nothing but errors. part of a film:" in text
    assert "--start TIME Begin at this time" in text
    assert "--quality NUMBER" in text  # and not {None}|FLOAT


def test_an_option_that_no_group_has_is_still_shown() -> None:
    bare = CommandHelp("restore", (), ())
    command = parsing._GROUPED["restore"]
    text = "\n".join(help_lines(command, bare, everything=True))
    assert "\nother:\n" in text
    assert "--fidelity" in text
