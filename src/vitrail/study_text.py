"""Settings as text: YAML in, every problem in words, and a commented file out. Knows no setting by name."""

from __future__ import annotations

import difflib
import math
import re
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from vitrail.errors import Problem

LONGEST_VALUE = 120
"""Longer values are shortened in messages."""


# ---------------------------------------------------------------------------------------------------- YAML in


class _OnceLoader(yaml.SafeLoader):
    """Reads plain data only, and refuses a setting that is given twice: YAML would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is given twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def read_yaml(text: str) -> tuple[Any, Problem | None]:
    """Return the plain data that a YAML text holds, or what is wrong with it, in words."""
    try:
        return yaml.load(text, Loader=_OnceLoader), None  # noqa: S506 - a safe loader with one more check
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}" if mark else "(whole file)"
        return None, Problem(where, "is not valid YAML.", str(getattr(error, "problem", None) or error))
    except (ValueError, RecursionError) as error:  # a date such as 2025-02-30; brackets within brackets without end
        return None, Problem("(whole file)", "is not valid YAML.", str(error))


class _Writer(yaml.SafeDumper):
    """Writes plain data; texts with line ends and their like in double quotes, because YAML folds them in any other form."""


def _represent_text(writer: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return writer.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"')


_Writer.add_representer(str, _represent_text)


def write_yaml(content: Any) -> str:
    """Return plain data as YAML that reads back equal."""
    return yaml.dump(content, Dumper=_Writer, sort_keys=False, allow_unicode=True, width=100)


def put(content: Any, keys: list[str], value: Any) -> None:
    """Put a value at a place in nested plain data. Sections that are missing are made; items of lists go by name or number.

    Raises:
        LookupError: There is no such place; the message says what there is.
    """
    for position, key in enumerate(keys):
        last = position == len(keys) - 1
        if isinstance(content, dict):
            if last:
                content[key] = value
            else:
                content = content.setdefault(key, {})
        elif isinstance(content, list):
            number = _number_of(content, key)
            if last:
                content[number] = value
            else:
                content = content[number]
        else:
            raise LookupError(f"{'.'.join(keys[:position])} holds one value, no settings")


def _number_of(items: list[Any], key: str) -> int:
    names = [str(item.get("name") or item.get("model")) if isinstance(item, dict) else "" for item in items]
    if key in names:
        return names.index(key)
    if key.isdecimal() and int(key) < len(items):
        return int(key)
    known = ", ".join(name or str(number) for number, name in enumerate(names)) or "nothing"
    raise LookupError(f"there is no {key!r} here; there is {known}")


# ---------------------------------------------------------------------------------------------------- problems in words


class _Place(NamedTuple):
    """Where a problem is: its path without pydantic's additions, and the settings around it (if it is known which)."""

    path: tuple[str | int, ...]
    around: type[BaseModel] | None

    @property
    def key(self) -> str:
        """The path as people write it: ``models[1].trees``."""
        parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.path)
        return "".join(parts).lstrip(".") or "(whole file)"


def problems_in_words(error: ValidationError, content: Any, settings: type[BaseModel]) -> tuple[Problem, ...]:
    """Turn what pydantic found into the house's words: key path, rule, allowed values, value found.

    Args:
        error: What pydantic found.
        content: The plain data it looked at.
        settings: The settings it tried to make of them.

    Returns:
        Every problem, in the order of the file.
    """
    placed = [(_place(detail["loc"], settings), detail) for detail in error.errors(include_url=False)]
    # pydantic also calls a list too short when all its items are wrong: that is told already.
    placed = [(place, detail) for place, detail in placed if not (detail["type"] == "too_short" and len(detail["input"]))]
    placed.sort(key=lambda pair: _position(pair[0].path, content))
    return tuple(_in_words(place, detail) for place, detail in placed)


def _in_words(place: _Place, detail: Any) -> Problem:
    found = _shortened(repr(detail["input"]))
    match detail["type"]:
        case "extra_forbidden" | "invalid_key":
            known = list(place.around.model_fields) if place.around else []
            name = str(place.path[-1])
            message = f"unknown setting. {suggestion(name, known)}Known here: {', '.join(known)}."
            return Problem(place.key, message, _shortened(f"{name}: {detail['input']!r}"))
        case "union_tag_invalid":
            known = re.findall(r"'([^']*)'", detail["ctx"]["expected_tags"])
            name = detail["ctx"]["tag"]
            return Problem(
                f"{place.key}.model", f"unknown model. {suggestion(name, known)}Known: {', '.join(known)}.", repr(name)
            )
        case "union_tag_not_found":
            return Problem(f"{place.key}.model", "missing: every model names its family, for example `model: forest`.", found)
        case "missing":
            return Problem(place.key, "missing, and it has no default.", "nothing")
        case "literal_error":
            known = re.findall(r"'([^']*)'", detail["ctx"]["expected"])
            near = suggestion(str(detail["input"]), known).rstrip()
            return Problem(place.key, f"must be one of {detail['ctx']['expected']}.{f' {near}' if near else ''}", found)
        case "model_type" | "model_attributes_type":
            return Problem(place.key, "must hold settings as `key: value` lines.", found)
        case "tuple_type":
            return Problem(place.key, "must be a list, for example [a, b].", found)
        case "date_type" | "date_parsing" | "date_from_datetime_parsing" | "date_from_datetime_inexact":
            return Problem(place.key, "must be a day, YYYY-MM-DD.", found)
        case "path_type":
            return Problem(place.key, "must be a path.", found)
        case "value_error":
            return Problem(place.key, f"{detail['ctx']['error']}.", found)
    rule = re.sub(r"^\w+ should ", "must ", detail["msg"]).replace(" after validation", "").rstrip(".")
    return Problem(place.key, f"{rule}.", found)


def suggestion(word: str, known: list[str]) -> str:
    """Return ``Did you mean 'x'? `` for the known word that is closest, if one is close."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.7)
    return f"Did you mean {close[0]!r}? " if close else ""


def _place(location: tuple[int | str, ...], settings: type[BaseModel]) -> _Place:
    """Follow a location through the settings. Between the number of a model and its keys pydantic names the family: left out."""
    path: list[str | int] = []
    around: type[BaseModel] | None = None
    kind: Any = settings
    for part in location:
        choices = _choices(kind)
        if part in choices:
            kind = choices[str(part)]
            continue
        path.append(part)
        around = kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None
        if around is not None:
            kind = _without_wrapping(around.model_fields[part].annotation) if part in around.model_fields else None
        elif get_origin(kind) is tuple:
            kind = _without_wrapping(get_args(kind)[0])
    return _Place(tuple(path), around)


def _without_wrapping(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _choices(kind: Any) -> dict[str, type[BaseModel]]:
    """Return family -> settings where a place holds one of several models."""
    if get_origin(kind) not in (types.UnionType, Union):
        return {}
    members = [member for member in get_args(kind) if isinstance(member, type) and issubclass(member, BaseModel)]
    return {member.model_fields["model"].default: member for member in members}


def _position(path: tuple[str | int, ...], content: Any) -> tuple[int, ...]:
    """Return where a place stands in the data; what is missing there comes last."""
    position: list[int] = []
    for part in path:
        known = (
            list(content) if isinstance(content, dict) else list(range(len(content))) if isinstance(content, list | tuple) else []
        )
        position.append(known.index(part) if part in known else len(known))
        content = content[part] if part in known else None
    return tuple(position)


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 3]}..."


# ---------------------------------------------------------------------------------------------------- a commented file


HEAD = ("A vitrail study. Run it with: vitrail run study.yaml", "Every problem in this file is reported at once.")
"""How a commented file begins where nobody says."""


def commented_yaml(study: BaseModel, *, head: Sequence[str] = HEAD, reasons: Mapping[str, str] | None = None) -> str:
    """Return the study as YAML in which every setting carries its sentence: what ``vitrail init`` writes.

    Reading it back gives an equal study. What one model sets for itself alone (its own preprocess and training) is written
    where it says something.

    Args:
        study: The settings.
        head: Lines at the top, written as comments.
        reasons: Dotted key (a model by its name) -> why the setting is as it is; written below its sentence.
    """
    lines = [*(_comment(line, margin="") for line in head), ""]
    return "\n".join([*lines, *_commented(study, margin="", reasons=reasons or {}, top=True)]) + "\n"


def _commented(
    settings: BaseModel, *, margin: str, reasons: Mapping[str, str], above: str = "", top: bool = False, item: bool = False
) -> Iterator[str]:
    """Yield the lines of some settings: of the study itself (``top``), of an item of a list, or of a section.

    Args:
        settings: What is written.
        margin: Blanks before every line.
        reasons: See :func:`commented_yaml`.
        above: Dotted key of the settings themselves, with a dot at its end; empty: the study.
        top: Whether they are the study.
        item: Whether they are an item of a list.
    """
    for position, (name, field) in enumerate(type(settings).model_fields.items()):
        value = getattr(settings, name)
        items = value if isinstance(value, tuple) and value and isinstance(value[0], BaseModel) else ()
        if item and position == 0:  # the dash; the line above it says what the item is
            yield f"{margin[:-2]}- {name}: {_inline(value)}"
            continue
        if isinstance(value, BaseModel) and value == field.default and not top:
            continue
        if top and (items or isinstance(value, BaseModel)):
            yield ""
        yield f"{margin}# {field.description}"
        if above + name in reasons:
            yield _comment(reasons[above + name], margin=margin)
        yield f"{margin}{name}:" + ("" if items or isinstance(value, BaseModel) else f" {_inline(value)}")
        if isinstance(value, BaseModel):
            yield from _commented(value, margin=f"{margin}  ", reasons=reasons, above=f"{above}{name}.")
        for number, part in enumerate(items):
            key = f"{above}{name}.{getattr(part, 'name', number)}"
            yield f"{margin}  # {_first_line(part)}"
            if key in reasons:
                yield _comment(reasons[key], margin=f"{margin}  ")
            yield from _commented(part, margin=f"{margin}    ", reasons=reasons, above=f"{key}.", item=True)


def _comment(text: str, *, margin: str) -> str:
    """Return a text as one line of comment, whatever stands in it: names of folders may hold anything."""
    plain = "".join(letter if letter.isprintable() else " " for letter in text)
    return f"{margin}# {plain}".rstrip()


def _first_line(settings: BaseModel) -> str:
    return (type(settings).__doc__ or "").strip().splitlines()[0]


def _inline(value: object) -> str:
    """Return a value as YAML on one line."""
    plain = list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value
    text = yaml.dump(plain, Dumper=_Writer, default_flow_style=True, allow_unicode=True, width=math.inf)
    return text.removesuffix("\n").removesuffix("\n...")
