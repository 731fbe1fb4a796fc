"""Verifiable questions from reasoning-gym, with traces by solvers of our own."""
