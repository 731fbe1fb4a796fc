"""The look: one hue, hierarchy by brightness, further colours for alarms alone."""

from textual.theme import Theme

HUD = Theme(
    name="hud",
    primary="#aacfd1",
    secondary="#6f9da0",
    accent="#00e5ff",
    foreground="#aacfd1",
    background="#05080d",
    surface="#0a0f16",
    panel="#0d141c",
    success="#3cd66f",
    warning="#f3c969",
    error="#ff5c57",
    dark=True,
)
COLOUR_BLIND = Theme(
    name="hud-colour-blind",
    primary="#c8d3dc",
    secondary="#8a9ba8",
    accent="#56b4e9",
    foreground="#c8d3dc",
    background="#05080d",
    surface="#0a0f16",
    panel="#0d141c",
    success="#56b4e9",
    warning="#f0e442",
    error="#d55e00",
    dark=True,
)
ANSI = Theme(
    name="hud-ansi",
    primary="ansi_cyan",
    secondary="ansi_cyan",
    accent="ansi_bright_cyan",
    foreground="ansi_default",
    background="ansi_default",
    surface="ansi_default",
    panel="ansi_default",
    boost="ansi_default",
    success="ansi_green",
    warning="ansi_yellow",
    error="ansi_red",
    dark=True,
    ansi=True,
    variables={
        "ansi-background": "ansi_black",
        "ansi-foreground": "ansi_white",
        "border-blurred": "ansi_bright_black",
        "block-cursor-foreground": "ansi_black",
        "block-cursor-background": "ansi_cyan",
        "input-cursor-background": "ansi_bright_white",
        "input-cursor-foreground": "ansi_black",
    },
)
"""The terminal's own sixteen colours."""
THEMES = (HUD, COLOUR_BLIND, ANSI)

BRIGHT = "bold $primary"
PLAIN = "$foreground"
DIM = "$foreground 60%"
FAINT = "$foreground 35%"
OK = "$success"
WARN = "$warning"
FAIL = "bold $error"
