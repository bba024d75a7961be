"""Whoever runs the same range test: one module per framework, one function per contestant."""
