"""Colours of the monitor's two themes.

They are those of Okabe and Ito, "Color Universal Design" (2008, https://jfly.uni-koeln.de/color/), told apart
with every kind of colour vision; lines also differ in dash, marks in shape.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

__all__ = ["DARK", "EXPERT_COLOURS", "LIGHT", "OTHERS_COLOUR", "PALETTES", "Palette"]

# experts in a stack, and what is left of them; read from light to dark and back, so that neighbours differ
EXPERT_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
OTHERS_COLOUR = "#8a929c"


class Palette(msgspec.Struct, frozen=True):
    """Colours of one theme, named by what they show."""

    ink: str
    muted: str
    grid: str
    paper: str
    served: str
    band: str
    frozen: str
    alarm: str
    rollback: str
    snapshot: str
    lag: str
    naive: str


LIGHT = Palette(
    ink="#1b1f24",
    muted="#59616b",
    grid="#e6e9ed",
    paper="#ffffff",
    served="#0072B2",
    band="rgba(0, 114, 178, 0.16)",
    frozen="#6b7280",
    alarm="#D55E00",
    rollback="#A8518A",  # reddish purple #CC79A7, darker for contrast on white
    snapshot="#009E73",
    lag="#009E73",
    naive="#B06A00",  # orange #E69F00, darker for contrast on white
)
DARK = Palette(
    ink="#e8eaed",
    muted="#a3abb5",
    grid="#2b3138",
    paper="#1a1e23",
    served="#56B4E9",
    band="rgba(86, 180, 233, 0.20)",
    frozen="#9aa3ad",
    alarm="#F08A4B",  # vermillion #D55E00, lighter for contrast on black
    rollback="#CC79A7",
    snapshot="#2FBF95",  # bluish green #009E73, lighter for contrast on black
    lag="#2FBF95",
    naive="#E69F00",
)
PALETTES: Mapping[str, Palette] = {"light": LIGHT, "dark": DARK}
