"""A lesson: one function of the engine, taken out for a student to write.

Rule: texts, clauses, hints and wrong answers are data (`lessons/NN-name.toml`); signature
and answer are the engine's own source, read where they stand.
"""

from __future__ import annotations

import ast
import textwrap
import tomllib
from functools import cached_property
from pathlib import Path
from typing import Annotated

import msgspec

PACKAGE = Path(__file__).parents[1]
LESSONS = Path(__file__).parent / "lessons"
BLANK = "..."


class LessonError(Exception):
    """A lesson that is not there, or whose file cannot be used; one line."""


class Wrong(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A typical wrong answer, and how it is recognised.

    `seen` is a regular expression for what becomes of it: the observed value of `clause` as
    JSON, or else the error; `says` names the mistake to whoever made it.
    """

    says: str
    body: str
    clause: str
    seen: str


class Text(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file of `lessons/`."""

    title: str
    step: str  # PROGRAM STEP, as `startkit explain` names it
    file: str  # below startkit/
    function: str  # or Class.method
    heading: str  # the article's
    task: str
    background: str
    look: list[str]
    clauses: list[str]
    given: list[str] = []  # lines of import
    hints: Annotated[list[str], msgspec.Meta(min_length=3, max_length=3)]
    wrong: Annotated[list[Wrong], msgspec.Meta(min_length=3, max_length=3)]


class Lesson:
    """A lesson with its place in the engine."""

    def __init__(self, path: Path) -> None:
        number, _, self.name = path.stem.partition("-")
        self.number = int(number)
        try:
            self.text = msgspec.convert(tomllib.loads(path.read_text()), Text)
        except ValueError as error:
            raise LessonError(f"{path}: {error}") from None
        self.path = PACKAGE / self.text.file

    @property
    def file(self) -> str:
        """The name of its file in a course."""
        return f"{self.number:02}_{self.name.replace('-', '_')}.py"

    @property
    def function(self) -> str:
        """The name of the function that a student writes."""
        return self.text.function.rpartition(".")[2]

    @cached_property
    def source(self) -> str:
        """The whole module of the engine."""
        return self.path.read_text()

    @cached_property
    def module(self) -> ast.Module:
        """The same, parsed."""
        return ast.parse(self.source)

    @cached_property
    def reference(self) -> ast.FunctionDef:
        """The engine's function. Raises LessonError."""
        found: ast.AST = self.module
        for name in self.text.function.split("."):
            found = next(
                (one for one in ast.iter_child_nodes(found) if getattr(one, "name", "") == name),
                ast.Pass(),
            )
        if not isinstance(found, ast.FunctionDef):
            raise LessonError(f"{self.text.file}: no function {self.text.function}")
        return found

    def answer(self) -> str:
        """Return the body of the engine's function, without its docstring."""
        first = self.reference.body[1]
        lines = self.source.splitlines()[first.lineno - 1 : self.reference.end_lineno]
        return textwrap.dedent("\n".join(lines))

    def shown(self) -> str:
        """Return the engine's function as it stands there, with its place in the first line."""
        node = self.reference
        lines = self.source.splitlines()[node.lineno - 1 : node.end_lineno]
        place = f"startkit/{self.text.file}:{node.lineno}, step {self.text.step}"
        return f"# {place}\n" + textwrap.dedent("\n".join(lines))

    def signature(self) -> str:
        """Return the line with `def`; a method is a function of the object."""
        node = self.reference
        owner = self.text.function.rpartition(".")[0]
        arguments = ast.unparse(node.args)
        if owner:
            arguments = arguments.replace("self", f"self: {owner}", 1)
        returns = ast.unparse(node.returns) if node.returns else "None"
        return f"def {node.name}({arguments}) -> {returns}:"

    def imports(self) -> list[str]:
        """Return a line of import for each type of the signature."""
        names = [one.id for one in ast.walk(ast.parse(f"{self.signature()} ...")) if
                 isinstance(one, ast.Name)]  # fmt: skip
        home = "startkit." + self.text.file.removesuffix(".py").replace("/", ".")
        own = {getattr(node, "name", "") for node in self.module.body}
        found = {f"from {home} import {name}" for name in names if name in own}
        for node in ast.walk(self.module):
            if isinstance(node, ast.ImportFrom):
                imported = {alias.asname or alias.name for alias in node.names}
                found |= {f"from {node.module} import {name}" for name in names if name in imported}
        return sorted(found)

    def page(self, body: str = BLANK) -> str:
        """Return the file that a student gets, with `body` as the function's."""
        text = self.text
        parts = [
            f"Lesson {self.number}: {text.title}.",
            filled(text.task),
            filled(text.background),
            f"In the article: heading {text.heading}. In the engine: {text.step}.",
            "Look at the real thing:\n\n" + textwrap.indent("\n".join(text.look), "    "),
            f"Then: startkit learn check {self.name}",
        ]
        lines = ['"""' + "\n\n".join(parts) + '\n"""', "", "from __future__ import annotations", ""]
        imports = self.imports()
        if imports:
            lines += ["from typing import TYPE_CHECKING", ""]
        if text.given:
            lines += [*text.given, ""]
        if imports:
            lines += ["if TYPE_CHECKING:", *(f"    {line}" for line in imports), ""]
        says = (ast.get_docstring(self.reference) or "").splitlines()[0]
        lines += ["", self.signature(), f'    """{says}"""']
        return "\n".join(lines) + "\n" + textwrap.indent(body.strip("\n"), "    ") + "\n"

    def is_blank(self, source: str) -> bool:
        """Say whether a file is still as it was given."""
        return source == self.page()

    def refuse(self, source: str, file: str) -> str:
        """Return why a file cannot be tried at all, "" where it can."""
        try:
            tree = ast.parse(source, file)
        except SyntaxError as error:
            return f"{file}:{error.lineno}: SyntaxError: {error.msg}"
        mine = [one for one in tree.body if getattr(one, "name", "") == self.function]
        if not mine or not isinstance(mine[-1], ast.FunctionDef):
            return f"{file}: no function {self.function}: {self.signature()}"
        wanted, given = (
            [one.arg for one in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            for node in (self.reference, mine[-1])
        )
        if wanted != given:
            return f"{file}:{mine[-1].lineno}: its parameters are {', '.join(wanted)}"
        return ""


def filled(text: str) -> str:
    """Return paragraphs, each filled to the width of a page."""
    return "\n\n".join(textwrap.fill(" ".join(one.split()), 88) for one in text.split("\n\n"))


def load() -> list[Lesson]:
    """Return all lessons in the article's order. Raises LessonError."""
    return [Lesson(path) for path in sorted(LESSONS.glob("*.toml"))]


def find(word: str) -> Lesson:
    """Return a lesson by number, name or file. Raises LessonError."""
    lessons = load()
    for one in lessons:
        if word in (str(one.number), one.name, one.file, Path(one.file).stem):
            return one
    names = " ".join(one.name for one in lessons)
    raise LessonError(f"no lesson {word!r}: 1 to {len(lessons)}, or {names}")
