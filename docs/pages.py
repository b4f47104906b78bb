"""``python -m docs.pages``: make those pages of docs/reference anew that come from the code.

tests/unit/package/test_pages.py fails if they are not what this makes.
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import inspect
import re
from pathlib import Path
from typing import Final

import livingai
from livingai import adapters, config, errors

FOLDER: Final = Path(__file__).parent / "reference"
#: Groups of public names, in their order on the page; what is in none comes under "More".
GROUPS: Final[dict[str, tuple[str, ...]]] = {
    "Saving": ("CheckpointEngine", "ExecutionNode", "NodeType", "Status", "ErrorInfo", "Receipt",
               "Outcome", "OutcomeStatus", "Durability"),
    "Durable runs": ("Run", "SyncRun", "step", "tool", "RunSettings", "Resolution", "RetryPolicy"),
    "Recovery and replay": ("RecoveryEngine", "RecoveryPlan", "ReplaySession", "ReplayMode",
                            "ReplayResult"),
    "Stores": ("open_store", "SQLiteStore", "RedisStore", "PostgresStore", "TieredStore", "Store"),
    "Settings": ("EngineConfig", "ServiceConfig"),
}  # fmt: skip
_HEAD: Final = "<!-- Made by `python -m docs.pages`. -->\n\n"


def python_page() -> str:
    """The public names of ``livingai``, by group, and its errors."""
    error_names = {name for name in errors.__dict__ if _is_error(name)}
    left = [name for name in livingai.__all__ if name not in error_names and name[0] != "_"]
    parts = [_HEAD + "# Python\n\nAll public names of `livingai`, from their docstrings.\n"]
    groups = {title: [name for name in names if name in left] for title, names in GROUPS.items()}
    grouped = {name for names in groups.values() for name in names}
    groups["More"] = [name for name in left if name not in grouped]
    for title, names in groups.items():
        if names:
            parts.append(f"\n## {title}\n")
            parts += [_described(f"livingai.{name}") for name in names]
    options = "{show_root_heading: false, heading_level: 3}"
    parts.append(f"\n## Errors\n\n::: livingai.errors\n    options: {options}\n")
    return "".join(parts)


def _described(name: str) -> str:
    """Have the site's tools put in what the docstrings of a name say."""
    return f"\n::: {name}\n    options: {{heading_level: 3}}\n"


def _is_error(name: str) -> bool:
    value = getattr(errors, name)
    return inspect.isclass(value) and issubclass(value, BaseException)


def settings_page() -> str:
    """All fields of the settings' classes, with what the code says about each."""
    head = "# Settings\n\nKeywords of `CheckpointEngine(store, ...)`, fields of `EngineConfig`.\n\n"
    parts = [_HEAD + head + "| setting | type | default | |\n|---|---|---|---|\n"]
    remarks = comments(config.EngineConfig)
    for field in dataclasses.fields(config.EngineConfig):
        kind = str(field.type).replace("|", "\\|")
        remark = remarks.get(field.name, "").replace("|", "\\|")
        parts.append(f"| `{field.name}` | `{kind}` | `{_default(field)}` | {remark} |\n")
    return "".join(parts)


def _default(field: dataclasses.Field[object]) -> str:
    if field.default is dataclasses.MISSING:
        return "none: to be given"
    if isinstance(field.default, enum.Enum):
        return f"{type(field.default).__name__}.{field.default.name}"
    return f'"{field.default}"' if isinstance(field.default, str) else str(field.default)


def comments(cls: type) -> dict[str, str]:
    """By field of a dataclass: its ``#:`` comment. One above several fields is of the first, to
    which the others refer."""
    source = inspect.getsource(cls)
    lines = source.splitlines()
    found: dict[str, str] = {}
    (body,) = ast.parse(source).body
    assert isinstance(body, ast.ClassDef)
    last = ""
    for statement in body.body:
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            continue
        above: list[str] = []
        at = statement.lineno - 2
        while at >= 0 and (match := re.match(r"\s*#: ?(.*)", lines[at])):
            above.insert(0, match[1])
            at -= 1
        text = " ".join(above) or (f"See `{last}`." if last else "")
        last = statement.target.id if above else last
        found[statement.target.id] = _plain(text)
    return found


def _plain(text: str) -> str:
    """Without the roles and double quotes of reStructuredText."""
    return re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text).replace("``", "`")


def adapters_page() -> str:
    """The public names of each adapter."""
    see = "[Frameworks](../frameworks/README.md)"
    head = f"# Adapters\n\nEach is imported with the framework that it is for; see {see}.\n"
    parts = [_HEAD + head]
    for path in sorted(Path(adapters.__path__[0]).iterdir()):
        file = path / "__init__.py" if path.is_dir() else path
        if file.suffix == ".py" and file.exists() and (names := _exported(file)):
            module = f"livingai.adapters.{path.stem}"
            parts.append(f"\n## `{module}`\n")
            parts += [_described(f"{module}.{name}") for name in names]
    return "".join(parts)


def _exported(file: Path) -> list[str]:
    """``__all__`` of a module, which is not imported: its framework may not be here."""
    for statement in ast.parse(file.read_text("utf-8")).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__all__":
            names: list[str] = ast.literal_eval(statement.value)
            return names
    return []


PAGES: Final = {
    "python.md": python_page, "settings.md": settings_page, "adapters.md": adapters_page,
}  # fmt: skip


def main() -> None:
    """Write the pages."""
    for name, make in PAGES.items():
        (FOLDER / name).write_text(make(), encoding="utf-8")


if __name__ == "__main__":
    main()
