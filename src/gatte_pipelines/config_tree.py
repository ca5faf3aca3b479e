"""A YAML document with the line of every value, and its fields read with clear refusals.

Shared by the files of ``config/``: what may stand in one belongs to the policy that reads it. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import yaml

from gatte_pipelines.errors import BadInputError

# The longest real file has some 30,000 characters; a megabyte of brackets would take minutes.
MAX_CHARACTERS = 200_000
# rules / a rule / its columns / one of them, and some to spare.
MAX_DEPTH = 8

ROOT = "policy"
"""What an error calls the whole of a document."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,60}")


@dataclass(slots=True)
class Node:
    """A value and the line on which it begins."""

    line: int
    value: str | list[Node] | dict[str, tuple[int, Node]]


@dataclass(slots=True)
class _Frame:
    """A mapping or sequence that is being read, and the name that awaits its value."""

    node: Node
    pending: tuple[str, int] | None = None


@dataclass(slots=True)
class _Tree:
    """Puts the events of a YAML parser together, without ever calling itself."""

    file: str
    root: Node | None = None
    frames: list[_Frame] = field(default_factory=list)

    def take(self, event: yaml.Event, line: int) -> None:
        if isinstance(event, yaml.DocumentStartEvent) and self.root is not None:
            raise self._refuse(line, "expected one document: take out the line ---")
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            # A few lines of them can stand for a billion values.
            raise self._refuse(line, "expected plain values, without anchors (&) and aliases (*)")
        if getattr(event, "tag", None) is not None:
            raise self._refuse(line, "expected plain values, without tags (!)")
        if isinstance(event, yaml.ScalarEvent):
            self._scalar(event.value, line)
        elif isinstance(event, yaml.MappingStartEvent):
            self._begin(Node(line, {}))
        elif isinstance(event, yaml.SequenceStartEvent):
            self._begin(Node(line, []))
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            self._add(self.frames.pop().node)

    def _scalar(self, value: str, line: int) -> None:
        frame = self.frames[-1] if self.frames else None
        if frame is None or not isinstance(frame.node.value, dict) or frame.pending is not None:
            self._add(Node(line, value))
            return
        if value in frame.node.value:
            first = frame.node.value[value][0]
            frame.pending = (value, line)
            raise self._refuse(
                line, f"stands on line {first} already; expected each name once: take one out"
            )
        frame.pending = (value, line)

    def _begin(self, node: Node) -> None:
        frame = self.frames[-1] if self.frames else None
        if frame is not None and isinstance(frame.node.value, dict) and frame.pending is None:
            raise self._refuse(node.line, "expected a name before the colon")
        if len(self.frames) >= MAX_DEPTH:
            raise self._refuse(node.line, f"expected at most {MAX_DEPTH} levels")
        self.frames.append(_Frame(node))

    def _add(self, node: Node) -> None:
        if not self.frames:
            self.root = node
            return
        frame = self.frames[-1]
        if isinstance(frame.node.value, list):
            frame.node.value.append(node)
        elif isinstance(frame.node.value, dict) and frame.pending is not None:
            name, line = frame.pending
            frame.node.value[name] = (line, node)
            frame.pending = None

    def _refuse(self, line: int, reason: str) -> BadInputError:
        path = ""
        for frame in self.frames:
            if frame.pending is not None:
                path = _join(path, frame.pending[0])
            elif isinstance(frame.node.value, list):
                path += f"[{len(frame.node.value)}]"
        return BadInputError(self.file, line, path or ROOT, reason)


def _join(path: str, name: str) -> str:
    """The path of a field; a name that is none is not repeated."""
    shown = name if _NAME.fullmatch(name) else "?"
    return f"{path}.{shown}" if path else shown


def read_tree(text: str, file: str) -> Node:
    """Read a document.

    Args:
        text: YAML; anchors, aliases and tags are refused.
        file: Its name, for errors.

    Raises:
        BadInputError: It is not YAML, too long or too deep, or says something twice.
    """
    if len(text) > MAX_CHARACTERS:
        raise BadInputError(file, 1, ROOT, f"expected at most {MAX_CHARACTERS} characters")
    odd = yaml.reader.Reader.NON_PRINTABLE.search(text)
    if odd is not None:
        line = text.count("\n", 0, odd.start()) + 1
        raise BadInputError(file, line, ROOT, "expected text without control characters")
    tree = _Tree(file)
    line = 1
    try:
        for event in yaml.parse(text, Loader=yaml.BaseLoader):
            line = event.start_mark.line + 1 if event.start_mark else line
            tree.take(event, line)
    except (yaml.YAMLError, ValueError, OverflowError, LookupError) as error:
        # ValueError and others: escapes and directives with numbers that are none (\UFFFFFFFF).
        mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
        raise BadInputError(
            file,
            line if mark is None else mark.line + 1,
            ROOT,
            "this is not YAML; expected names and values, indented by spaces; "
            "look at colons, quotes and indentation here and on the line before",
        ) from None
    return tree.root if tree.root is not None else Node(1, "")


# --- The fields of a mapping ----------------------------------------------------------------------


@dataclass(slots=True)
class Fields:
    """The fields of one mapping of the file.

    Raises:
        BadInputError: It is no mapping, has a field that is none, or lacks one.
    """

    file: str
    path: str
    line: int
    entries: dict[str, tuple[int, Node]]

    @classmethod
    def of(
        cls,
        file: str,
        path: str,
        line: int,
        node: Node,
        *,
        required: tuple[str, ...] = (),
        optional: tuple[str, ...] = (),
        is_open: bool = False,
    ) -> Fields:
        """The fields of a node.

        Args:
            file: For errors.
            path: Of this mapping in the document; empty for the whole.
            line: On which it begins.
            node: The mapping.
            required: Fields it must have.
            optional: Fields it may have.
            is_open: Whether it may have any.
        """
        if not isinstance(node.value, dict):
            expected = ", ".join(required) or "names and values"
            raise BadInputError(file, node.line, path or ROOT, f"expected {expected}")
        fields = cls(file, path, line, node.value)
        known = (*required, *optional)
        for name, (at, _) in node.value.items():
            if not is_open and name not in known:
                raise BadInputError(
                    file,
                    at,
                    _join(path, name),
                    f"no field of this name here; expected {', '.join(known)}",
                )
        for name in required:
            if name not in node.value:
                raise fields.refuse(name, "this field is missing; expected it here")
        return fields

    def __contains__(self, name: str) -> bool:
        return name in self.entries

    def refuse(self, name: str, reason: str, line: int | None = None) -> BadInputError:
        """The error that names a field of this mapping; raised by the caller."""
        if line is None:
            line = self.entries[name][1].line if name in self.entries else self.line
        return BadInputError(self.file, line, _join(self.path, name), reason)

    def text(self, name: str, expected: str = "a text") -> str:
        """A text that says something, on one line."""
        value = self.entries[name][1].value
        shown = " ".join(value.split()) if isinstance(value, str) else ""
        if shown in {"", "~", "null"} or not shown.isprintable():
            raise self.refuse(name, f"expected {expected}")
        return shown

    def child(
        self,
        name: str,
        *,
        required: tuple[str, ...] = (),
        optional: tuple[str, ...] = (),
        is_open: bool = False,
    ) -> Fields:
        """The mapping under a field."""
        line, node = self.entries[name]
        return Fields.of(
            self.file,
            _join(self.path, name),
            line,
            node,
            required=required,
            optional=optional,
            is_open=is_open,
        )

    def items(
        self, name: str, *, example: str = "[content]", expected: str = "the name of a column"
    ) -> list[tuple[int, str]]:
        """A list of texts, each with its line."""
        value = self.entries[name][1].value
        if not isinstance(value, list):
            raise self.refuse(name, f"expected a list, such as {example}")
        found = []
        for number, item in enumerate(value):
            if not isinstance(item.value, str):
                raise self.refuse_item(name, number, item.line, f"expected {expected}")
            found.append((item.line, item.value))
        return found

    def refuse_item(self, name: str, number: int, line: int, reason: str) -> BadInputError:
        """The error that names one item of a list; raised by the caller."""
        return BadInputError(self.file, line, f"{_join(self.path, name)}[{number}]", reason)
