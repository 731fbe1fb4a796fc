"""Imports large libraries before metacog does.

While a module of metacog is imported under test, jaxtyping looks for byte code under another name:
libraries imported from there would be compiled again, and their SyntaxWarnings would be errors.
"""

from importlib import import_module

for name in (
    "torch",
    "transformers",
    "datasets",
    "reasoning_gym",
    "scipy.stats",
    "sklearn.metrics",
    "matplotlib.figure",
):
    import_module(name)
