"""Where runs execute: one module per launcher, found by name.

A launcher has one function, ``run(specs, dataset_path, store, launcher: LauncherSection) -> None``:
it carries out the specs whose results the store lacks. It never changes a result. With
``validate(launcher)`` it may raise :class:`lrrt.InputError` for options that it has not, before
anything runs.
"""
