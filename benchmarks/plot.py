"""A figure as plain SVG: horizontal bars in blocks, one block a scenario, no library.

Within a block all bars share one scale, the longest filling the width; blocks are not to be compared by length. The
label says the ratio to Palfrey first, which is what carries to other machines, then the rate. A thin line across a
bar's end spans its lowest to its highest round.
"""

from __future__ import annotations

from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH = 860
NAMES = 190
"""Room for the names, left of the bars."""
LABELS = 190
"""Room for the labels, right of the longest bar."""
LENGTH = WIDTH - NAMES - LABELS
BAR, STEP, HEADING, GAP, TOP, BOTTOM = 16, 22, 26, 16, 46, 28

OURS, THEIRS, FLOOR, WHISKER, INK, FAINT = "#1d5fa8", "#9db4cc", "#d9d9d9", "#333333", "#1a1a1a", "#666666"


@dataclass(frozen=True)
class Bar:
    """One contestant."""

    name: str
    rate: float
    low: float
    high: float
    ours: bool = False
    floor: bool = False
    note: str = ""


@dataclass(frozen=True)
class Block:
    """One scenario."""

    title: str
    bars: tuple[Bar, ...]


def figure(title: str, foot: str, blocks: list[Block]) -> str:
    """The whole SVG document."""
    height = TOP + BOTTOM + sum(HEADING + STEP * len(block.bars) + GAP for block in blocks)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'font-family="Helvetica, Arial, sans-serif" font-size="13" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(16, 28, title, INK, size=17, weight="bold"),
    ]
    y = TOP
    for block in blocks:
        parts.append(_text(16, y + 17, block.title, INK, weight="bold"))
        y += HEADING
        parts += _bars(block, y)
        y += STEP * len(block.bars) + GAP
    parts.append(_text(16, height - 10, foot, FAINT, size=11))
    return "\n".join([*parts, "</svg>", ""])


def _bars(block: Block, top: int) -> list[str]:
    longest = max((bar.high for bar in block.bars), default=0.0) or 1.0
    own = next((bar.rate for bar in block.bars if bar.ours), 0.0)
    parts = []
    for number, bar in enumerate(block.bars):
        y = top + number * STEP
        middle = y + BAR / 2
        length, low, high = (LENGTH * value / longest for value in (bar.rate, bar.low, bar.high))
        colour = OURS if bar.ours else FLOOR if bar.floor else THEIRS
        parts.append(_text(NAMES - 8, y + 13, bar.name, INK, anchor="end", weight="bold" if bar.ours else "normal"))
        parts.append(f'<rect x="{NAMES}" y="{y}" width="{length:.1f}" height="{BAR}" fill="{colour}"/>')
        parts.append(
            f'<path d="M{NAMES + low:.1f} {middle}H{NAMES + high:.1f}M{NAMES + low:.1f} {middle - 4}v8'
            f'M{NAMES + high:.1f} {middle - 4}v8" stroke="{WHISKER}" fill="none"/>'
        )
        ratio = f"{bar.rate / own:.2f}" if own else ""
        label = f"{ratio} · {bar.rate:,.0f}/s{bar.note}" if bar.rate else "no response"
        parts.append(_text(NAMES + max(length, high) + 8, y + 13, label, INK))
    return parts


def _text(
    x: float, y: float, text: str, fill: str, *, anchor: str = "start", size: int = 13, weight: str = "normal"
) -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" fill="{fill}" text-anchor="{anchor}" font-size="{size}" '
        f'font-weight="{weight}">{escape(text)}</text>'
    )
