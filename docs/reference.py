"""`make docs`: every public name with its signature and docstring, on one page.

python docs/reference.py            writes docs/reference.html
python docs/reference.py page.html  writes it elsewhere
"""

import html
import importlib
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# What a user imports, in the order of the page.
MODULES = (
    "pgvae",
    "pgvae.inference",
    "pgvae.metrics",
    "pgvae.data",
    "pgvae.objectives",
    "pgvae.schedule",
    "pgvae.snapshot",
    "pgvae.pictures",
    "pgvae.evaluation",
    "pgvae.errors",
    "pgvae.ops",
)
_STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
pre { white-space: pre-wrap; background: #8881; padding: 0.7rem; overflow-x: auto }
h3, h4 { font-family: ui-monospace, monospace; font-weight: 600; overflow-wrap: anywhere }
h4 { margin-left: 1rem } h4 + pre { margin-left: 1rem }
nav a { margin-right: 0.8rem; display: inline-block }
"""


def names_of(module: Any) -> list[str]:
    """The public names of a module: its `__all__`, or what it defines without an underscore."""
    if hasattr(module, "__all__"):
        return [name for name in module.__all__ if not name.startswith("_")]
    own = vars(module).items()
    return [n for n, v in own if not n.startswith("_") and _module_of(v) == module.__name__]


def entries() -> Iterator[tuple[str, str, Any]]:
    """Module, name and value of each class and function, methods as "Class.method"; each once."""
    seen: set[int] = set()
    for path in MODULES:
        module = importlib.import_module(path)
        for name in names_of(module):
            value = getattr(module, name)
            if not (inspect.isclass(value) or inspect.isfunction(value)) or id(value) in seen:
                continue  # a module, which has a chapter of its own, a constant, or known
            seen.add(id(value))
            yield path, name, value
            for method, inner in vars(value).items() if inspect.isclass(value) else ():
                inner = getattr(inner, "__func__", getattr(inner, "fget", inner))
                inner = getattr(inner, "func", inner)  # of a cached property
                if not method.startswith("_") and inspect.isfunction(inner) and inner.__doc__:
                    yield path, f"{name}.{method}", inner


def page() -> str:
    """The page, which needs nothing else."""
    body: list[str] = []
    chapter = ""
    for path, name, value in entries():
        if path != chapter:
            about = inspect.getdoc(importlib.import_module(path)) or ""
            body.append(f'<h2 id="{path}">{path}</h2>\n<pre>{html.escape(about)}</pre>')
            chapter = path
        level = 4 if "." in name else 3
        where = f"{path}.{name}"
        said = html.escape(inspect.getdoc(value) or "")
        title = html.escape(f"{name}{_signature(value)}")
        body.append(f'<h{level} id="{where}">{title}</h{level}>\n<pre>{said}</pre>')
    links = " ".join(f'<a href="#{path}">{path}</a>' for path in MODULES)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8" />'
        f"<title>pgvae: reference</title><style>{_STYLE}</style></head>\n<body>\n"
        f"<h1>pgvae: reference</h1>\n<nav>{links}</nav>\n" + "\n".join(body) + "\n</body></html>\n"
    )


def _module_of(value: Any) -> str | None:
    return getattr(value, "__module__", None)


def _signature(value: Any) -> str:
    try:
        return str(inspect.signature(value))
    except (TypeError, ValueError):  # an error's, of C
        return ""


def main(arguments: list[str]) -> None:
    """Write the page, and say where."""
    out = Path(arguments[0]) if arguments else Path(__file__).parent / "reference.html"
    out.write_text(page(), encoding="utf-8")
    print(out)


if __name__ == "__main__":
    main(sys.argv[1:])
