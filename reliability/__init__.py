"""Does the study keep its word? Kills, faults, bad input, memory and coverage, counted.

``python -m reliability`` writes ``reports/reliability.md``. No part of the package ``lrrt``.
"""
