"""Nullspace noise: what can be added after the patch embedding without changing the predictions (arXiv 2403.10476)."""

from nsbench.nullspace.approximate import LOSSES, LearntNoise, learn_noise, mse_probability, noise_influence

__all__ = ["LOSSES", "LearntNoise", "learn_noise", "mse_probability", "noise_influence"]
