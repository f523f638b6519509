"""Bar charts and boxes on pictures, as SVG that stands in a page: sharp at any size, no script. Colours come from the page."""

from base64 import b64encode
from html import escape

from ssd_lib.validation.report.elements import Mark, Picture, visible

SMALL = 0.08  # a faulty box below this share of the view gets a ring around it, or nobody would find it
THIN = 0.004  # and is drawn at least so thick, for one without a width would not be drawn at all
LABELLED = 0.3  # a box as wide as this share of the view has its name on it
LETTER = 0.055  # height of that name, as a share of the view's longer side


def bar(share: float, series: int) -> str:
    """A bar as long as its share of the whole width, in the colour of its series; what is above nothing is seen."""
    width = f'{max(100 * share, 0.3 if share else 0):.2f}%'
    return f'<svg class="bar" aria-hidden="true"><rect class="s{series}" width="{width}" height="100%" rx="2"/></svg>'


def drawing(picture: Picture) -> str:
    """An image with its boxes; hovering over a box shows its name."""
    x, y, width, height = picture.view
    image_width, image_height = picture.size
    parts = [f'<svg class="picture" viewBox="{_number(x)} {_number(y)} {_number(width)} {_number(height)}" role="img">',
             f'<image width="{image_width}" height="{image_height}" preserveAspectRatio="none" '
             f'href="data:image/jpeg;base64,{b64encode(picture.jpeg).decode()}"/>']
    if (width, height) != picture.size:
        parts.append(f'<rect class="edge" width="{image_width}" height="{image_height}"/>')
    parts += [_box(mark, picture.view) for mark in picture.marks]
    return "".join([*parts, "</svg>"])


def _box(mark: Mark, view: tuple[float, float, float, float]) -> str:
    left, top, width, height = _seen(mark.xywh, view)
    longer = max(view[2:])
    width, height = max(width, THIN * longer), max(height, THIN * longer)
    name, kind = escape(visible(mark.name)), "fault" if mark.is_faulty else "box"
    shape = (f'<rect class="{kind}" x="{_number(left)}" y="{_number(top)}" width="{_number(width)}" '
             f'height="{_number(height)}"/>')
    if mark.is_faulty and max(width, height) < SMALL * longer:
        shape += (f'<circle class="fault" cx="{_number(left + width / 2)}" cy="{_number(top + height / 2)}" '
                  f'r="{_number(SMALL * longer * 0.7)}"/>')
    if name and width >= LABELLED * view[2]:
        letter = LETTER * longer
        shape += (f'<text x="{_number(left + letter / 3)}" y="{_number(top + letter)}" '
                  f'font-size="{_number(letter)}" stroke-width="{_number(letter / 4)}">{name}</text>')
    return f"<g><title>{name}</title>{shape}</g>"


def _seen(xywh: tuple[float, float, float, float], view: tuple[float, float, float, float]) -> tuple[float, ...]:
    """The part of a box near the view, from corners in any order: browsers take no negative sides, and no huge numbers."""
    sides = []
    for at in (0, 1):
        first, last = sorted((xywh[at], xywh[at] + xywh[at + 2]))
        low, high = view[at] - view[at + 2], view[at] + 2 * view[at + 2]
        first, last = min(max(first, low), high), min(max(last, low), high)
        sides.append((first, last - first))
    return sides[0][0], sides[1][0], sides[0][1], sides[1][1]


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
