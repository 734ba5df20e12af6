"""What a user can type, and how it becomes a command whose options are checked."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, cast

import tyro
from tyro.constructors import ConstructorRegistry, StructConstructorSpec, StructTypeInfo

from vqfr_media.cli.batch import BatchCommand
from vqfr_media.cli.compare import CompareCommand
from vqfr_media.cli.console import echo
from vqfr_media.cli.demo import DemoCommand
from vqfr_media.cli.doctor import DoctorCommand
from vqfr_media.cli.engine import EngineCommand
from vqfr_media.cli.help import help_lines
from vqfr_media.cli.help_groups import COMMANDS
from vqfr_media.cli.preview import PreviewCommand
from vqfr_media.cli.report import ReportCommand
from vqfr_media.cli.restore import RestoreCommand
from vqfr_media.cli.studio import StudioCommand
from vqfr_media.cli.tracks import TracksCommand
from vqfr_media.cli.weights import WeightsCommand

AnyCommand = (
    RestoreCommand
    | BatchCommand
    | PreviewCommand
    | StudioCommand
    | TracksCommand
    | CompareCommand
    | ReportCommand
    | DemoCommand
    | WeightsCommand
    | EngineCommand
    | DoctorCommand
)
# The same with the names by which they are called.
_Named = (
    Annotated[RestoreCommand, tyro.conf.subcommand("restore")]
    | Annotated[BatchCommand, tyro.conf.subcommand("batch")]
    | Annotated[PreviewCommand, tyro.conf.subcommand("preview")]
    | Annotated[StudioCommand, tyro.conf.subcommand("studio")]
    | Annotated[TracksCommand, tyro.conf.subcommand("tracks")]
    | Annotated[CompareCommand, tyro.conf.subcommand("compare")]
    | Annotated[ReportCommand, tyro.conf.subcommand("report")]
    | Annotated[DemoCommand, tyro.conf.subcommand("demo")]
    | Annotated[WeightsCommand, tyro.conf.subcommand("weights")]
    | Annotated[EngineCommand, tyro.conf.subcommand("engine")]
    | Annotated[DoctorCommand, tyro.conf.subcommand("doctor")]
)

# Those whose help is shown by groups: they have many options.
_GROUPED: Mapping[str, type] = {
    "restore": RestoreCommand,
    "batch": BatchCommand,
    "preview": PreviewCommand,
    "studio": StudioCommand,
    "tracks": TracksCommand,
    "compare": CompareCommand,
    "report": ReportCommand,
}


def parse(arguments: Sequence[str]) -> AnyCommand:
    """Returns the command that `arguments` name.

    Raises:
        OptionError: an option is out of its range, or two contradict each other.
        SystemExit: help was asked for, or the arguments are no command; the parser has printed why.
    """
    if arguments and arguments[0] in _GROUPED and _asks_for_help(arguments[1:]):
        name, command = arguments[0], _GROUPED[arguments[0]]
        help_all = "--help-all" in arguments
        echo(*help_lines(command, COMMANDS[name], everything=help_all))
        raise SystemExit(0)
    with _unchecked_constructors():
        parsed: object = tyro.cli(
            _Named,
            prog="vqfr-media",
            description="Restores the faces of a video with VQFR; "
            "nothing else in the file is touched.",
            args=arguments,
            config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
        )
    assert isinstance(parsed, _Unchecked)  # noqa: S101 - by the registry
    return cast(AnyCommand, parsed.build())


def _asks_for_help(words: Sequence[str]) -> bool:
    return not {"-h", "--help", "--help-all"}.isdisjoint(words)


@dataclass(frozen=True)
class _Unchecked:
    """A dataclass whose values are parsed, but which was not constructed yet."""

    dataclass_type: Callable[..., object]
    """What is to be constructed."""
    values: Mapping[str, object]
    """Its fields; one that is such a dataclass itself is an `_Unchecked` too."""

    def build(self) -> object:
        """Constructs it, whereby it checks itself."""
        return self.dataclass_type(
            **{
                name: value.build() if isinstance(value, _Unchecked) else value
                for name, value in self.values.items()
            }
        )


def _unchecked_constructors() -> ConstructorRegistry:
    """Returns a registry by which the parser makes an `_Unchecked` of each of our dataclasses.

    The parser catches every ValueError that a constructor raises and prints it in a box of its own;
    constructed after parsing, our options raise their OptionError to `main`, like all errors.
    """
    registry = ConstructorRegistry()
    is_nested = False

    @registry.struct_rule
    def unchecked(info: StructTypeInfo) -> StructConstructorSpec | None:
        nonlocal is_nested
        ours = getattr(info.type, "__module__", "").startswith("vqfr_media.")
        if is_nested or not ours:
            return None
        is_nested = True  # the parser's own rule is asked for the fields
        try:
            usual = ConstructorRegistry.get_struct_spec(info)
        finally:
            is_nested = False
        if not isinstance(usual, StructConstructorSpec):
            return None

        def instantiate(**values: object) -> _Unchecked:
            return _Unchecked(usual.instantiate, values)

        instantiate.__doc__ = info.type.__doc__  # shown by --help
        return StructConstructorSpec(instantiate, usual.fields)

    return registry
