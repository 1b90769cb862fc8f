"""A bar for each day, prompt tokens below completion tokens, as SVG that a page's style colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_HEIGHT, _TOP, _BOTTOM, _LEFT = 190.0, 12.0, 22.0, 46.0
_LABELS_EVERY = {True: 2, False: 7}  # days between labels, on a wide and on a narrow plot
_STEPS = (1, 2, 2.5, 5, 10)


@dataclass(frozen=True)
class Bar:
    """What one day (such as 2026-11-24) brought."""

    label: str
    prompt: int
    completion: int
    failures: int


def draw(bars: Sequence[Bar], *, label: str, width: int, css_class: str) -> str:
    """The plot as one SVG element of this width."""
    top = nice_top(max((bar.prompt + bar.completion for bar in bars), default=0))
    parts = [_grid(top, width=width)]
    step = (width - _LEFT) / max(1, len(bars))
    for index, bar in enumerate(bars):
        parts.append(_bar(bar, x=_LEFT + index * step, step=step, top=top))
        if index % _LABELS_EVERY[width > 500] == 0:
            x, y = _LEFT + (index + 0.5) * step, _HEIGHT - 6
            parts.append(f'<text class="day" x="{x:.1f}" y="{y:.1f}" text-anchor="middle">{bar.label[-2:]}</text>')
    return (
        f'<svg class="plot {css_class}" viewBox="0 0 {width} {_HEIGHT:.0f}" width="{width}" height="{_HEIGHT:.0f}" '
        f'role="img" aria-label="{escape(label)}" xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'
    )


def nice_top(most: int) -> int:
    """The upper end of an axis for values up to `most`: a round number, four times a whole one."""
    scale = 1
    while True:
        for step in _STEPS:
            top = round(4 * step * scale)
            if top >= most and top % 4 == 0:
                return top
        scale *= 10


def short(number: int) -> str:
    """A number for an axis, such as 2.5M."""
    for size, unit in ((1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")):
        if number >= size:
            return f"{number / size:g}{unit}"
    return str(number)


def _y(value: float, top: int) -> float:
    return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * value / top


def _grid(top: int, *, width: int) -> str:
    parts = []
    for quarter in range(5):
        value = top * quarter // 4
        y = _y(value, top)
        parts.append(
            f'<line class="grid" x1="{_LEFT}" y1="{y:.1f}" x2="{width}" y2="{y:.1f}"/>'
            f'<text class="axis" x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{short(value)}</text>'
        )
    return "".join(parts)


def _bar(bar: Bar, *, x: float, step: float, top: int) -> str:
    if not (bar.prompt or bar.completion or bar.failures):
        return ""
    left, width = x + step * 0.15, step * 0.7
    middle, upper = _y(bar.prompt, top), _y(bar.prompt + bar.completion, top)
    title = f"{bar.label}: {bar.prompt:,} prompt and {bar.completion:,} completion tokens, {bar.failures:,} failures"
    failed = (
        f'<circle class="failed" cx="{left + width / 2:.1f}" cy="{upper - 6:.1f}" r="2.5"/>' if bar.failures else ""
    )
    return (
        f"<g><title>{escape(title)}</title>"
        f'<rect class="prompt" x="{left:.1f}" y="{middle:.1f}" width="{width:.1f}" height="{_y(0, top) - middle:.1f}"/>'
        f'<rect class="completion" x="{left:.1f}" y="{upper:.1f}" width="{width:.1f}" height="{middle - upper:.1f}"/>'
        f"{failed}</g>"
    )
