"""The straight path of `nsbench run`: open, fit, evaluate, store."""
