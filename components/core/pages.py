"""Pages from Jinja templates: values are escaped in HTML, and a missing one is an error.

Templates lie in `components/templates`. Each extends `base.html`, which brings the style that all
pages share and a content security policy: a page loads nothing, and only the scripts of its
template run. A page that a server gives may name in `connections` what it asks. `viewer.html` opens
pictures large.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jinja2

# Jinja escapes every value, so nothing that came from outside can look like this.
_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)
_TEMPLATES = Path(__file__).parents[1] / "templates"
_ALLOWED = "'of-this-template'"  # in base.html, the place of the scripts that may run


def render(
    template: str,
    values: Mapping[str, Any],
    filters: Mapping[str, Callable[..., str]] | None = None,
) -> str:
    """A page of `components/templates`: HTML, or Markdown, in which only filters escape.

    Raises jinja2.UndefinedError where the template names a value that is missing.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=jinja2.select_autoescape(),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters or {})
    html = environment.get_template(template).render(values)
    scripts = {_allowed(text) for text in _SCRIPT.findall(html)}
    return html.replace(_ALLOWED, " ".join(sorted(scripts)) or "'none'", 1)


def _allowed(script: str) -> str:
    """A script's source expression of a content security policy."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
