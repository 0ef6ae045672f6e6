"""Plain values, as YAML gives them, to frozen dataclasses, checked field by field."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Final, Literal, TypeVar, get_args, get_origin, get_type_hints

from saccade.model.training.errors import InvalidSetting, UnknownSetting

T = TypeVar("T")


def build(cls: type[T], values: Mapping[str, Any], prefix: str = "") -> T:
    """Return a dataclass, with nested ones, from plain values.

    Args:
        cls: A dataclass.
        values: One value for each field.
        prefix: Path of `values` in the configuration, ending in a dot.

    Raises:
        UnknownSetting: A key is not the name of a field.
        InvalidSetting: A value is missing or of the wrong type.
    """
    hints = get_type_hints(cls)
    names = [field.name for field in fields(cls)]  # type: ignore[arg-type]
    for key in values:
        if key not in names:
            raise UnknownSetting(
                "setting", f"{prefix}{key}", [prefix + n for n in names]
            )
    for name in names:
        if name not in values:
            raise InvalidSetting(prefix + name, "it has no value")
    return cls(**{n: convert(hints[n], values[n], prefix + n) for n in names})


def convert(wanted: Any, value: Any, key: str) -> Any:
    """Return `value` as the annotated type; an int may stand for a float."""
    if is_dataclass(wanted) and isinstance(value, Mapping):
        return build(wanted, value, f"{key}.")  # type: ignore[arg-type]
    origin = get_origin(wanted)
    if origin in _GENERIC:
        return _GENERIC[origin](get_args(wanted), value, key)
    if wanted is float and type(value) is int:
        return float(value)
    if type(value) is wanted:
        return value
    raise InvalidSetting(key, f"{value!r} is no {getattr(wanted, '__name__', wanted)}")


def _one_of(allowed: tuple[Any, ...], value: Any, key: str) -> Any:
    if value not in allowed:
        raise UnknownSetting(key, str(value), allowed)
    return value


def _either(kinds: tuple[Any, ...], value: Any, key: str) -> Any:
    """Return None, or the kind of dataclass that shares the most keys with `value`."""
    if value is None and NoneType in kinds:
        return None
    first, *others = [kind for kind in kinds if kind is not NoneType]
    given = set(value) if others and isinstance(value, Mapping) else set()

    def shared(kind: Any) -> int:
        return len(given & {field.name for field in fields(kind)})

    return convert(max(first, *others, key=shared) if others else first, value, key)


def _list(kinds: tuple[Any, ...], value: Any, key: str) -> list[Any]:
    items = convert(list, value, key)
    return [convert(kinds[0], item, f"{key}[{i}]") for i, item in enumerate(items)]


def _mapping(kinds: tuple[Any, ...], value: Any, key: str) -> dict[str, Any]:
    return dict(convert(dict, value, key))


_GENERIC: Final[Mapping[Any, Callable[[tuple[Any, ...], Any, str], Any]]] = {
    Literal: _one_of,
    UnionType: _either,
    list: _list,
    dict: _mapping,
}
