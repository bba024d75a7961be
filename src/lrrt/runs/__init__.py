"""Runs: specified (spec, plan), carried out (execute, launchers), kept (store), read (collect)."""
