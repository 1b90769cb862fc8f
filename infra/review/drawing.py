"""Draws the resource graph as SVG: a card per component, a dot per resource, a labelled bar per touched one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from infra.review.model import Node

_GAP, _PAD, _TITLE = 14.0, 12.0, 26.0
_DOT, _DOT_GAP = 9.0, 5.0
_BAR, _BAR_GAP = 22.0, 5.0
_CHARACTER = 6.7  # the width of a monospace character of 11 px
_MOST_LINKS = 160
_SIGNS = {"create": "+", "update": "~", "replace": "±", "delete": "−", "rename": "→", "same": ""}  # noqa: RUF001  (signs)


@dataclass
class _Card:
    """A component with its resources, and where it stands."""

    name: str
    touched: list[Node]
    untouched: list[Node]
    x: float = 0.0
    y: float = 0.0

    def height(self, width: float) -> float:
        dots = -(-len(self.untouched) // _per_row(width)) if self.untouched else 0
        bars = len(self.touched) * (_BAR + _BAR_GAP)
        return _TITLE + bars + dots * (_DOT + _DOT_GAP) + _PAD


def _per_row(width: float) -> int:
    return max(1, int((width - 2 * _PAD + _DOT_GAP) // (_DOT + _DOT_GAP)))


def draw(nodes: Sequence[Node], *, width: int, css_class: str) -> str:
    """The graph as one SVG element of this width; colours are CSS classes of the page it stands in."""
    columns = max(1, width // 290)
    card_width = (width - (columns - 1) * _GAP) / columns
    cards = _cards(nodes)
    heights = [0.0] * columns
    for card in sorted(cards, key=lambda each: -each.height(card_width)):
        column = heights.index(min(heights))
        card.x, card.y = column * (card_width + _GAP), heights[column]
        heights[column] += card.height(card_width) + _GAP
    places: dict[str, tuple[float, float]] = {}
    drawn = [_card(card, card_width, places) for card in cards]
    height = max(max(heights) - _GAP, 1.0)
    label = f"{len(nodes)} resources in {len(cards)} components; {sum(len(card.touched) for card in cards)} touched"
    return (
        f'<svg class="graph {css_class}" viewBox="0 0 {width} {height:.0f}" width="{width}" height="{height:.0f}" '
        f'role="img" aria-label="{escape(label)}" xmlns="http://www.w3.org/2000/svg">'
        + "".join(box for box, _ in drawn)
        + _links(nodes, places)
        + "".join(content for _, content in drawn)
        + "</svg>"
    )


def _cards(nodes: Sequence[Node]) -> list[_Card]:
    groups: dict[str, _Card] = {}
    for node in nodes:
        card = groups.setdefault(node.group, _Card(name=node.group, touched=[], untouched=[]))
        (card.untouched if node.state == "same" and node.severity == "none" else card.touched).append(node)
    return list(groups.values())


def _card(card: _Card, width: float, places: dict[str, tuple[float, float]]) -> tuple[str, str]:
    """The card's box, and what is on it; notes where each resource is drawn."""
    place = f'x="{card.x:.1f}" y="{card.y:.1f}" width="{width:.1f}" height="{card.height(width):.1f}"'
    box = f'<rect class="card" {place} rx="8"/>'
    count = len(card.touched) + len(card.untouched)
    parts = [
        f'<text class="title" x="{card.x + _PAD:.1f}" y="{card.y + 18:.1f}">{escape(card.name)}</text>',
        f'<text class="count" x="{card.x + width - _PAD:.1f}" y="{card.y + 18:.1f}" text-anchor="end">{count}</text>',
    ]
    y = card.y + _TITLE
    for node in card.touched:
        places[node.urn] = (card.x + _PAD, y + _BAR / 2)
        parts.append(_bar(node, x=card.x + _PAD, y=y, width=width - 2 * _PAD))
        y += _BAR + _BAR_GAP
    for index, node in enumerate(card.untouched):
        row, column = divmod(index, _per_row(width))
        x, top = card.x + _PAD + column * (_DOT + _DOT_GAP), y + row * (_DOT + _DOT_GAP)
        places[node.urn] = (x + _DOT / 2, top + _DOT / 2)
        title = f"<title>{escape(f'{node.name} ({node.type})')}</title>"
        parts.append(
            f'<rect class="dot" x="{x:.1f}" y="{top:.1f}" width="{_DOT}" height="{_DOT}" rx="2">{title}</rect>'
        )
    return box, "".join(parts)


def _bar(node: Node, *, x: float, y: float, width: float) -> str:
    room = int((width - 34) // _CHARACTER)
    name = node.name if len(node.name) <= room else node.name[: room - 1] + "…"
    title = f"{node.name} ({node.type}): {node.state}, {node.severity}"
    return (
        f'<g class="bar {node.state} sev-{node.severity}"><title>{escape(title)}</title>'
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{_BAR}" rx="5"/>'
        f'<text class="sign" x="{x + 11:.1f}" y="{y + 15:.1f}" text-anchor="middle">{_SIGNS[node.state]}</text>'
        f'<text class="name" x="{x + 24:.1f}" y="{y + 15:.1f}">{escape(name)}</text></g>'
    )


def _links(nodes: Sequence[Node], places: dict[str, tuple[float, float]]) -> str:
    """Curves from each touched resource to what its values come from, and to it from what is touched with it."""
    touched = {node.urn for node in nodes if node.state != "same"}
    lines = [
        (node, target)
        for node in nodes
        for target in node.links
        if target in places and (node.urn in touched or target in touched)
    ]
    parts = []
    for node, target in lines[:_MOST_LINKS]:
        (x1, y1), (x2, y2) = places[node.urn], places[target]
        bend = max(24.0, abs(x2 - x1) / 3)
        severity = node.severity if node.urn in touched else "none"
        curve = f"M{x1:.1f} {y1:.1f}C{x1 - bend:.1f} {y1:.1f} {x2 - bend:.1f} {y2:.1f} {x2:.1f} {y2:.1f}"
        parts.append(f'<path class="link sev-{severity}" d="{curve}"/>')
    return "".join(parts)
