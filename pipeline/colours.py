"""The colours of everything that dfpipe draws, in one table.

Fake is vermilion, real is blue, undecided is ochre, and what cannot be judged is grey: on a terminal, in reports, on the web
page, in pictures and in charts. Vermilion and blue are those of the palette by Okabe and Ito (2008), which people of any
colour vision tell apart; words, dashes or thickness say the same wherever a colour does. What is read is darkened, or on a
dark page lightened, until its contrast is 4.5, and what is only seen until it is 3 (WCAG 2.2, 1.4.3 and 1.4.11); a test
measures it. The web page and the templates hold the same values; a test compares them.
"""

from dataclasses import dataclass

Rgb = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Shades:
    """One meaning, as #rrggbb."""

    text: str  # on white; also a field under white letters, and a box in a picture
    dark: str  # text on a dark page
    area: str  # in charts, on white
    terminal: str  # SGR parameters of ECMA-48; the terminal's owner chose what they look like


VERDICTS = {
    "FAKE": Shades("#B3400B", "#FF9D66", "#D55E00", "1;31"),
    "REAL": Shades("#005F94", "#6CC2F5", "#0072B2", "1;34"),
    "UNCERTAIN": Shades("#6B5900", "#E8CF5A", "#A87100", "33"),
    "NO_FACE": Shades("#56626B", "#B8C2CA", "#777777", "1"),
    "ERROR": Shades("#56626B", "#B8C2CA", "#777777", "1"),
}
LABELS = {"real": VERDICTS["REAL"].area, "fake": VERDICTS["FAKE"].area, "unlabelled": VERDICTS["NO_FACE"].area}

# Lines that mean neither real nor fake: people in a clip, models. The palette's, darkened to be seen on white.
LINES = ("#0072B2", "#D55E00", "#008A65", "#B85F92", "#2C88BD", "#A87100", "#000000", "#8C6D1F")
LINES_DARK = ("#4AA8E0", "#FF8A3C", "#3FC79C", "#E39CC4", "#8FD0F7", "#F0B83A", "#F2F4F6", "#C9A94F")
BAND, THRESHOLD = "#E9E3C8", VERDICTS["UNCERTAIN"].text  # where nothing is decided, on white


def rgb(colour: str) -> Rgb:
    """#rrggbb as (red, green, blue), 0..255."""
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue
