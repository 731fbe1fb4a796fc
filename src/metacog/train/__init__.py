"""Objectives, optimisers and the loop that runs them."""
