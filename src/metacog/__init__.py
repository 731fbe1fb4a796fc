"""metacog: a small language model that thinks, and knows how long to."""

__version__ = "0.1.0"
