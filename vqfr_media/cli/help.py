"""`--help` of the commands with many options: what everybody needs first, then the rest by purpose.

`--help` shows the first groups and names the others, `--help-all` shows them all. The texts are the
docstrings of the fields; the parser itself is tyro's, see `parsing.py`.
"""

import ast
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from itertools import pairwise
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import tyro

from vqfr_media.cli.help_groups import CommandHelp, OptionGroup

_WIDTH = 100
_INDENT = 26
# What stands for a value of text, by the option's name; else TEXT.
_VALUES = {
    "start": "TIME", "end": "TIME", "duration": "TIME", "device": "DEVICE", "codec": "NAME",
    "preset": "NAME", "container": "NAME", "video_suffix": "SUFFIX", "image_suffix": "SUFFIX",
    "ray": "ADDRESS", "person": "PHOTO|N", "not_person": "PHOTO|N",
}  # fmt: skip
_POSITIONAL = get_args(tyro.conf.Positional[int])[1]


@dataclass(frozen=True)
class _Option:
    """One option or positional argument."""

    name: str
    """Of the field."""
    words: str
    """What is typed: `-o PATH, --output PATH`."""
    text: str
    """What it does, its default included."""


def help_lines(command: type, shown: CommandHelp, *, everything: bool) -> Iterator[str]:
    """Yields the lines of a command's help.

    Args:
        command: the dataclass that the command is parsed into.
        shown: how its options are grouped.
        everything: whether experts' options are shown too.
    """
    yield f"usage: vqfr-media {shown.usage}"
    for paragraph in (inspect.getdoc(command) or "").split("\n\n"):
        yield ""
        yield from textwrap.wrap(paragraph, _WIDTH)
    yield ""
    yield "examples:"
    yield from (f"  {example}" for example in shown.examples)
    options = {option.name: option for option in _options(command)}
    grouped = {name for group in shown.groups for name in group.names}
    rest = OptionGroup("other", tuple(n for n in options if n not in grouped), is_expert=True)
    hidden = []
    for group in (*shown.groups, rest):
        there = [options[name] for name in group.names if name in options]
        if not there:
            continue
        if group.is_expert and not everything:
            hidden.append(group.title)
            continue
        yield ""
        yield f"{group.title}:"
        for option in there:
            yield from _option_lines(option)
    yield ""
    yield from _option_lines(
        _Option("help", "-h, --help", "Show this; --help-all shows all options.")
    )
    if hidden:
        yield ""
        text = f"For experts, shown by --help-all: {'; '.join(hidden)}."
        yield from textwrap.wrap(text, _WIDTH)


def _option_lines(option: _Option) -> Iterator[str]:
    lines = textwrap.wrap(option.text, _WIDTH - _INDENT) or [""]
    start = f"  {option.words}"
    if len(start) > _INDENT - 2:
        yield start
        start = ""
    yield f"{start:{_INDENT}}{lines[0]}"
    yield from (" " * _INDENT + line for line in lines[1:])


def _options(command: type) -> Iterator[_Option]:
    """Yields the options of a dataclass and of the dataclasses in it, as tyro names them."""
    hints = get_type_hints(command, include_extras=True)
    documents = _documents(command)
    for field in fields(command):
        hint = hints[field.name]
        kind = _without_markers(hint)
        if is_dataclass(kind):
            assert isinstance(kind, type)  # noqa: S101 - a type hint is no value
            yield from _options(kind)
            continue
        value = _value_of(field.name, kind)
        markers = _markers(hint)
        value = next((m.metavar for m in markers if getattr(m, "metavar", None)), value)
        if _POSITIONAL in markers:
            words = value if value != "PATH" else field.name.upper()
        else:
            aliases = [alias for m in markers for alias in getattr(m, "aliases", None) or ()]
            flags = (*aliases, f"--{field.name.replace('_', '-')}")
            words = ", ".join(f"{flag} {value}".rstrip() for flag in flags)
        text = " ".join([documents[field.name], *_default_words(field)])
        yield _Option(field.name, words, text)


def _markers(hint: Any) -> tuple[Any, ...]:
    """Returns what is annotated to a type besides it."""
    return getattr(hint, "__metadata__", ())


def _without_markers(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _value_of(name: str, kind: Any) -> str:
    """Returns what stands for a value of this type: nothing for a switch."""
    if get_origin(kind) in (Union, UnionType):
        kinds = [one for one in get_args(kind) if one is not NoneType]
        return _value_of(name, kinds[0])
    if get_origin(kind) is Literal:
        return "{" + ",".join(map(str, get_args(kind))) + "}"
    if get_origin(kind) is tuple:
        inner = [one for one in get_args(kind) if one is not Ellipsis]
        return " ".join(_value_of(name, one) for one in inner)
    words = {bool: "", int: "N", float: "NUMBER", Path: "PATH"}
    return words.get(kind, _VALUES.get(name, "TEXT"))


def _default_words(field: Field[Any]) -> Iterator[str]:
    """Says the default, where the text does not: nothing for switches and what is left open."""
    default = field.default
    if isinstance(default, bool) or default in (None, (), "", MISSING):
        return
    if isinstance(default, (int, float)):
        yield f"Default: {default:g}."
    elif isinstance(default, tuple):
        yield f"Default: {' '.join(map(str, default))}."
    else:
        yield f"Default: {default}."


def _documents(command: type) -> dict[str, str]:
    """Reads the docstrings of the fields of a dataclass, by name, each in one line."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(command))).body
    assert isinstance(tree, ast.ClassDef)  # noqa: S101 - it is the source of a class
    found = {}
    for statement, text in pairwise(tree.body):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            match text:
                case ast.Expr(ast.Constant(str(words))):
                    found[statement.target.id] = " ".join(words.split())
    return found
