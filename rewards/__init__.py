"""Reward models: what a trajectory is worth."""
