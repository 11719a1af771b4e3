"""Small rules that check one JSON value each and refuse it in the published service's words."""

import re
from collections.abc import Callable, Mapping
from typing import TypeAlias, cast

from asyncruns.emulator._errors import Refusal

Rule: TypeAlias = Callable[[object, str], None]

_KINDS: tuple[tuple[type, str], ...] = (
    (bool, "a boolean"),
    (int, "an integer"),
    (float, "a decimal"),
    (str, "a string"),
    (list, "an array"),
    (dict, "an object"),
)


def boolean(value: object, path: str) -> None:
    """Refuse what is neither true nor false."""
    if not isinstance(value, bool):
        raise _wrong_type(value, path, "a boolean")


def anything(value: object, path: str) -> None:
    """Refuse nothing."""


def string(*, max_length: int | None = None, pattern: str | None = None) -> Rule:
    """Make a rule for texts; *pattern* must match the whole text."""

    def check(value: object, path: str) -> None:
        if not isinstance(value, str):
            raise _wrong_type(value, path, "a string")
        if max_length is not None and len(value) > max_length:
            raise Refusal(
                f"Invalid '{path}': string too long. Expected a string with maximum length {max_length}, "
                f"but got a string with length {len(value)} instead.",
                param=path,
                code="string_above_max_length",
            )
        if pattern is not None and not re.fullmatch(pattern, value):
            raise Refusal(
                f"Invalid '{path}': string does not match pattern. Expected a string that matches the "
                f"pattern '^{pattern}$'.",
                param=path,
                code="invalid_value",
            )

    return check


def number(*, minimum: float | None = None, maximum: float | None = None, whole: bool = False) -> Rule:
    """Make a rule for numbers between the bounds, which themselves are allowed."""
    word = "integer" if whole else "decimal"

    def check(value: object, path: str) -> None:
        # JSON Schema counts 1.0 as an integer, and so does the published description.
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not isinstance(value, int | float) or not is_number or (whole and value != int(value)):
            raise _wrong_type(value, path, f"{'an' if whole else 'a'} {word}")
        if minimum is not None and value < minimum:
            raise _out_of_range(path, word, "below minimum", f">= {minimum}", value)
        if maximum is not None and value > maximum:
            raise _out_of_range(path, word, "above maximum", f"<= {maximum}", value)

    return check


def one_of(*words: str) -> Rule:
    """Make a rule for a text out of a fixed set."""

    def check(value: object, path: str) -> None:
        if not isinstance(value, str):
            raise _wrong_type(value, path, f"one of {_listed(words)}")
        if value not in words:
            raise Refusal(
                f"Invalid value: '{value}'. Supported values are: {_listed(words)}.",
                param=path,
                code="invalid_value",
            )

    return check


def nullable(rule: Rule) -> Rule:
    """Make a rule that lets null pass, and hands anything else on."""

    def check(value: object, path: str) -> None:
        if value is not None:
            rule(value, path)

    return check


def array(item: Rule, *, max_length: int | None = None, min_length: int = 0) -> Rule:
    """Make a rule for arrays whose items all follow *item*."""

    def check(value: object, path: str) -> None:
        if not isinstance(value, list):
            raise _wrong_type(value, path, "an array")
        if max_length is not None and len(value) > max_length:
            raise Refusal(
                f"Invalid '{path}': array too long. Expected an array with maximum length {max_length}, "
                f"but got an array with length {len(value)} instead.",
                param=path,
                code="array_above_max_length",
            )
        if len(value) < min_length:
            raise Refusal(
                f"Invalid '{path}': empty array. Expected an array with minimum length {min_length}, "
                "but got an empty array instead.",
                param=path,
                code="empty_array",
            )
        for index, entry in enumerate(value):
            item(entry, f"{path}[{index}]")

    return check


def shape(fields: Mapping[str, Rule], *, required: tuple[str, ...] = (), closed: bool = False) -> Rule:
    """Make a rule for objects with these fields; a closed one refuses all others."""

    def check(value: object, path: str) -> None:
        if not isinstance(value, dict):
            raise _wrong_type(value, path, "an object")
        for name in required:
            if name not in value:
                raise missing(_inside(path, name))
        for name, entry in value.items():
            if name in fields:
                fields[name](entry, _inside(path, name))
            elif closed:
                inside = _inside(path, name)
                raise Refusal(f"Unknown parameter: '{inside}'.", param=inside, code="unknown_parameter")

    return check


def tagged(variants: Mapping[str, Rule], *, tag: str = "type") -> Rule:
    """Make a rule for objects whose *tag* field says which of the rules they follow."""
    kind = shape({tag: one_of(*variants)}, required=(tag,))

    def check(value: object, path: str) -> None:
        kind(value, path)
        word = cast("dict[str, str]", value)[tag]
        variants[word](value, path)

    return check


def by_type(variants: Mapping[type, Rule], expected: str) -> Rule:
    """Make a rule that depends on the JSON type of the value; *expected* names the allowed ones."""

    def check(value: object, path: str) -> None:
        rule = variants.get(type(value))
        if rule is None:
            raise _wrong_type(value, path, expected)
        rule(value, path)

    return check


def missing(path: str) -> Refusal:
    """Return the answer about a parameter that has to be there."""
    return Refusal(f"Missing required parameter: '{path}'.", param=path, code="missing_required_parameter")


def _inside(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _listed(words: tuple[str, ...]) -> str:
    quoted = [f"'{word}'" for word in words]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"


def _wrong_type(value: object, path: str, expected: str) -> Refusal:
    got = next((words for kind, words in _KINDS if isinstance(value, kind)), "null")
    where = f" for '{path}'" if path else ""
    return Refusal(
        f"Invalid type{where}: expected {expected}, but got {got} instead.",
        param=path or None,
        code="invalid_type",
    )


def _out_of_range(path: str, word: str, side: str, bound: str, value: float) -> Refusal:
    return Refusal(
        f"Invalid '{path}': {word} {side} value. Expected a value {bound}, but got {value} instead.",
        param=path,
        code=f"{word}_{side.replace(' ', '_').replace('minimum', 'min').replace('maximum', 'max')}_value",
    )
