"""The learning-rate finder for anyone's own model: live PyTorch and Keras models, with error bars.

:func:`range_test` runs one range test and puts everything back; :func:`audit` repeats it over
weights and orders and says how far to trust the answer. Only ``lrrt.finder.torch*`` and
``lrrt.finder.keras*`` import a framework.
"""
