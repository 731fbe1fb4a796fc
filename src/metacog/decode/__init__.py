"""Turns requests into replies: the budget's rule, the sampler, and the one decode loop."""
