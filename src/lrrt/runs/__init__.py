"""Runs: specification, store, execution, launchers, policies; knows no experiment."""
