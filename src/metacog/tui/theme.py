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
THEMES = (HUD, COLOUR_BLIND)

BRIGHT = "bold $primary"
PLAIN = "$foreground"
DIM = "$foreground 60%"
FAINT = "$foreground 35%"
OK = "$success"
WARN = "$warning"
FAIL = "bold $error"
