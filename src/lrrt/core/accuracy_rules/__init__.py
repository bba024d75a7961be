"""Rules that read a learning-rate range off the accuracy, one module each, named after its source.

Each has ``suggest(lr, accuracy) -> Suggestion`` on float arrays of shape (steps,), at least one
step: the accuracy of validation data after each step, from 0 to 1, NaN where it was not measured.
Like those of :mod:`lrrt.core.rules`, which read the loss, they never warn and never raise.
"""
