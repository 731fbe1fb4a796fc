"""Measures what learned budgets are worth: replies become rows, rows become figures with intervals."""
