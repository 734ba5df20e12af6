"""Stand-ins for libraries that a measurement imports and does not use."""

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


class StandIn(ModuleType):
    """A module whose every name is a class that does nothing, so that importing it works."""

    def __getattr__(self, name: str) -> Any:
        """Returns the class of that name."""
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class StandInFinder(MetaPathFinder, Loader):
    """Finds a stand-in for these packages and for whatever is imported from within them."""

    def __init__(self, packages: Sequence[str]) -> None:
        self._packages = frozenset(packages)

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        """Returns what loads the stand-in; None for other modules."""
        del path, target
        ours = fullname.partition(".")[0] in self._packages
        return ModuleSpec(fullname, self, is_package=True) if ours else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Makes the stand-in."""
        return StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Does nothing: it is complete."""


def stand_in(*packages: str) -> list[str]:
    """Lets this process import those of `packages` that are not installed; says which.

    For a process that only measures: training on noise needs none of what prepares photographs.
    """
    absent = [name for name in packages if importlib.util.find_spec(name) is None]
    for name in absent:
        sys.modules.pop(name, None)  # None there says that it must not be looked for
    if absent:
        sys.meta_path.insert(0, StandInFinder(absent))
    return absent
