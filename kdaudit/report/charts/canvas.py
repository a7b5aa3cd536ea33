"""What pictures are drawn on: SVG whose text stays text, coloured by the page, and PDF; the same bytes every time."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from hashlib import sha256
from typing import Any
from xml.etree import ElementTree

from matplotlib import rc_context, style
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from kdaudit.report.blocks import Picture
from kdaudit.report.text import plain

WIDTH = 4.0  # inches; the text is 11 pixels high on a telephone and 8 points in half a printed page
INK, FAINT, GRID = "#1c2026", "#6b7480", "#d9dde3"
MODELS = ("#0072b2", "#c14a00", "#00795a", "#8a3f7c")
"""The colours of models by position. All are those of the light page. In a page the page's own stand in their place,
which follow light and dark."""
COLOURS: Mapping[str, str] = {
    INK: "var(--ink)",
    FAINT: "var(--faint)",
    GRID: "var(--grid)",
    **{placeholder: f"var(--model-{number})" for number, placeholder in enumerate(MODELS)},
}
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)), (0, (9, 2)))
"""Neither number shares a factor with that of the colours: more models than colours still look different."""

SETTINGS: Mapping[str, Any] = {
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "font.family": "DejaVu Sans",  # comes with matplotlib, so the layout is the same everywhere
    "font.size": 9.3,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 9.3,
    "pdf.fonttype": 42,  # publishers refuse Type 3
    "svg.fonttype": "none",
    "svg.hashsalt": "kdaudit",
    "text.color": INK,
    "text.parse_math": False,  # a name with dollar signs is no formula
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 9.3,
    "ytick.labelsize": 9.3,
}
TEXT_STYLE = f"font-size: {SETTINGS['font.size']}px; font-family: 'DejaVu Sans'"
"""As matplotlib writes it on every text of the usual size."""
COORDINATES = {"d", "x", "y"}
PREFIX = "drawing-"
"""What every id in a picture begins with."""
SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
NO_PDF_METADATA = dict.fromkeys(("Creator", "Producer", "CreationDate"))
_FOR_PRINT: ContextVar[bool] = ContextVar("for_print", default=False)
_IS_STYLED: ContextVar[bool] = ContextVar("is_styled", default=False)


@contextmanager
def for_print() -> Iterator[None]:
    """Every picture that is drawn inside has a PDF too, which takes as long again as its SVG."""
    token = _FOR_PRINT.set(True)
    try:
        yield
    finally:
        _FOR_PRINT.reset(token)


@contextmanager
def styled() -> Iterator[None]:
    """Matplotlib's own defaults and ours, whatever the user's matplotlibrc says; inside of itself nothing more."""
    if _IS_STYLED.get():
        yield
        return
    token = _IS_STYLED.set(True)
    try:
        with rc_context(), style.context(["default", dict(SETTINGS)]):
            yield
    finally:
        _IS_STYLED.reset(token)


@contextmanager
def panel(height: float, *, left: float, below: float = 0.5, above: float = 0.3) -> Iterator[tuple[Figure, Axes]]:
    """A figure of one panel.

    Args:
        height: of the whole, in inches.
        left: where the panel begins, as a share of the width.
        below: room under the panel, in inches.
        above: room over it.
    """
    with styled():
        figure = Figure(figsize=(WIDTH, height))
        figure.subplots_adjust(left=left, right=0.93, top=1 - above / height, bottom=below / height)
        yield figure, figure.subplots()


def picture(
    figure: Figure, title: str, caption: str, *, message: str = "", told: Mapping[str, str] | None = None
) -> Picture:
    """What was drawn, named `title`; inside of `for_print` with its PDF.

    Args:
        figure: as drawn.
        title: names it.
        caption: what stands beside it.
        message: what it shows, for those who do not see it; without one its title.
        told: by the id of an artist, what a reader who points at it is told.
    """
    return Picture(
        to_svg(figure, message or title, told=told), caption, title, to_pdf(figure, title) if _FOR_PRINT.get() else b""
    )


def named(text: str) -> str:
    """A label of a legend: matplotlib would hide one that begins with an underscore."""
    return f" {text}" if text.startswith("_") else text


def to_pdf(figure: Figure, title: str) -> bytes:
    """The figure as a PDF of one page, in the colours of the light page."""
    from matplotlib.backends.backend_pdf import FigureCanvasPdf  # loads the subsetting of fonts, which a page needs not

    written = io.BytesIO()
    metadata = {**NO_PDF_METADATA, "Title": plain(title)}
    FigureCanvasPdf(figure).print_pdf(written, metadata=metadata)  # type: ignore[no-untyped-call]
    return written.getvalue()


def standing_alone(svg: str) -> str:
    """An `<svg>` of a page as a file: with a size, in points, and the colours of the light page."""
    root = ElementTree.fromstring(svg)
    _, _, width, height = root.attrib["viewBox"].split()
    root.set("width", f"{width}pt")
    root.set("height", f"{height}pt")
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    text = ElementTree.tostring(root, encoding="unicode")
    colours = {own: colour for colour, own in COLOURS.items()}
    text = re.sub("|".join(map(re.escape, colours)), lambda found: colours[found[0]], text)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'


def to_svg(figure: Figure, title: str, *, told: Mapping[str, str] | None = None) -> str:
    """The figure as one `<svg>` element, which changes nothing around it and clashes with no other.

    Args:
        figure: as drawn.
        title: what it shows, for those who do not see it.
        told: by the id of an artist, what a reader who points at it is told.
    """
    written = io.StringIO()
    FigureCanvasSVG(figure).print_svg(written, metadata=NO_METADATA)  # type: ignore[no-untyped-call]
    drawing = written.getvalue()
    root = ElementTree.fromstring(drawing[drawing.index("<svg") :])
    for parent in [*root.iter()]:
        for child in [*parent]:
            if child.tag in {f"{{{SVG}}}metadata", f"{{{SVG}}}style"}:  # its rules would hold for the whole page
                parent.remove(child)
    for element in root.iter():
        if (words := (told or {}).get(element.attrib.get("id", ""))) is not None:
            note = ElementTree.Element(f"{{{SVG}}}title")
            note.text = plain(words)
            element.insert(0, note)
    _shorten(root)
    _rename(root, prefix=f"{PREFIX}{sha256(f'{title}{drawing}'.encode()).hexdigest()[:8]}-")
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.set("role", "img")
    root.set("aria-label", plain(title))
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    text = ElementTree.tostring(root, encoding="unicode")
    return re.sub("|".join(COLOURS), lambda found: COLOURS[found[0]], text)


def _shorten(root: ElementTree.Element) -> None:
    """Leave out what nobody sees: most of a page is pictures. Coordinates end at tenths of a point; text stays."""
    root.set("style", TEXT_STYLE)
    for element in root.iter():
        for name in COORDINATES & element.attrib.keys():
            found = re.sub(r"-?\d+\.\d\d+", _to_tenths, element.attrib[name])
            element.set(name, re.sub(r" *([A-Za-z]) *", r"\1", " ".join(found.split())))
        if element.attrib.get("transform", "").startswith("rotate(-0 "):
            del element.attrib["transform"]
        if "style" in element.attrib and element is not root:
            element.set("style", element.attrib["style"].replace(f"{TEXT_STYLE}; ", "").replace(": ", ":"))
        element.text, element.tail = (
            (text if text and text.strip() else None) for text in (element.text, element.tail)
        )
    for parent in [*root.iter()]:
        for child in [*parent]:
            if child.tag == f"{{{SVG}}}g" and not [*child] and not child.attrib:
                parent.remove(child)


def _to_tenths(found: re.Match[str]) -> str:
    return f"{float(found[0]):.1f}".removesuffix(".0")


def _rename(root: ElementTree.Element, *, prefix: str) -> None:
    """Keep only the ids that something points to, and make them this picture's own."""
    text = ElementTree.tostring(root, encoding="unicode")
    used = {*re.findall(r'href="#([^"]+)"', text), *re.findall(r"url\(#([^)]+)\)", text)}
    for element in root.iter():
        name = element.attrib.pop("id", None)
        if name in used:
            element.set("id", prefix + str(name))
        for key, value in element.attrib.items():
            if key == f"{{{XLINK}}}href":
                element.set(key, value.replace("#", f"#{prefix}"))
            elif "url(#" in value:
                element.set(key, value.replace("url(#", f"url(#{prefix}"))
