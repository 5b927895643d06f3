"""Values as people read them, in tables and sentences."""

from __future__ import annotations

from collections.abc import Collection, Mapping


def plain(value: object) -> str:
    """A value in English: yes and no, four digits of a float, lists by commas; "" for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {plain(one)}" for key, one in value.items()) or "none"
    if isinstance(value, Collection) and not isinstance(value, str | bytes):
        return ", ".join(map(plain, value)) or "none"
    return str(value)
