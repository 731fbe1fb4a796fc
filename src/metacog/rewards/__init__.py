"""Rewards and advantages of sampled replies: pure functions."""
