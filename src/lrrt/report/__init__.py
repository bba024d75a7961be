"""The report: figures, tables, claims and one page, drawn from a study's frames."""
