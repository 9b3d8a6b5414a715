"""How are numbers with a unit written for people?

Rule: three figures are enough, the unit always stands beside the number, and "not known" is a dash.
"""

from __future__ import annotations

UNKNOWN = "–"


def seconds_text(seconds: float | None) -> str:
    """``13 ms``, ``0.42 s``, ``37 s``, ``4 min 10 s``, ``3 h 05 min``, ``2 d 4 h``."""
    if seconds is None:
        return UNKNOWN
    if 0 < seconds < 0.1:
        return f"{max(1, round(seconds * 1000))} ms"
    if seconds == 0:
        return "0 s"
    if seconds < 10:
        return f"{seconds:.2f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min"
    return f"{hours // 24} d {hours % 24} h"


def bytes_text(size: float | None) -> str:
    """``512 B``, ``3.4 MB``, ``1.2 GB``: powers of ten."""
    if size is None:
        return UNKNOWN
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size) < 1000:
            return f"{size:.0f} B" if unit == "B" else f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def count_text(count: float | None) -> str:
    """``12,345``."""
    return UNKNOWN if count is None else f"{count:,.0f}"


def share_text(fraction: float) -> str:
    """``98.5 %``; never rounded up to a hundred, nor down to nothing."""
    if 0 < fraction < 0.0005:
        return "<0.1 %"
    return f"{min(fraction * 100, 99.9) if fraction < 1 else 100:.1f} %"


def node_text(node: str) -> str:
    """A node's name; Ray's own identifiers of 56 digits are cut to the eight that tell them apart."""
    return node[:8] if len(node) == 56 and not set(node) - set("0123456789abcdef") else node


def cut_text(text: str, most: int = 160) -> str:
    """The first line of a text, cut where it's longer than ``most``; the whole of it stands in the
    journal.
    """
    line = text.strip().partition("\n")[0]
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"


def rate_text(per_s: float | None) -> str:
    """``83.2 steps/s``, or ``12 s a step`` where that's easier to read."""
    if per_s is None or per_s <= 0:
        return UNKNOWN
    return f"{per_s:.3g} steps/s" if per_s >= 0.5 else f"{1 / per_s:.3g} s a step"
