"""The command line: the only part that prints, and where errors become exit codes."""
