"""How the LR moves during a training: one module per policy, found by name.

A policy has one function, ``lrs(lr, total_steps) -> ndarray (total_steps,)``: the LR of each step,
``lr`` being the suggestion that it is built around (the largest LR of the training).
"""
