"""HTML and SVG from pieces: text is escaped unless it is markup already."""

from collections.abc import Iterable
from html import escape

_VOID = frozenset({"br", "img", "input", "link", "meta"})


class Html(str):
    """Markup, as opposed to text that has still to be escaped."""

    __slots__ = ()


def tag(name: str, *children: object, **attributes: object) -> Html:
    """An element.

    children:   `Html` goes in as it is, a list piece by piece, None not at all, and anything else
                as escaped text.
    attributes: `class_` is class and `data_p` is data-p; None and False leave one out, True gives
                it without a value.

        tag("p", "1 < 2", class_="note") == '<p class="note">1 &lt; 2</p>'
    """
    opening = f"<{name}{''.join(map(_attribute, attributes.items()))}>"
    return Html(opening if name in _VOID else f"{opening}{join(children)}</{name}>")


def join(pieces: Iterable[object]) -> Html:
    """Pieces one after the other, by the rules of `tag`'s children."""
    return Html("".join(map(_child, pieces)))


def _child(child: object) -> str:
    if child is None:
        return ""
    if isinstance(child, Html):
        return child
    return join(child) if isinstance(child, list | tuple) else escape(str(child))


def _attribute(item: tuple[str, object]) -> str:
    name, value = item[0].rstrip("_").replace("_", "-"), item[1]
    if value is None or value is False:
        return ""
    return f" {name}" if value is True else f' {name}="{escape(str(value))}"'
