"""Equality of environments by their settings."""


class ByValue:
    """Makes instances with equal `_settings` equal and hashable.

    jit compiles once per *equal* static argument, so two rooms of the same size share what was compiled.
    Settings are for good: changing an attribute of an environment later is not seen.
    """

    _settings: tuple

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ByValue) or type(self) is not type(other):
            return False
        return self._settings == other._settings

    def __hash__(self) -> int:
        return hash((type(self), self._settings))
