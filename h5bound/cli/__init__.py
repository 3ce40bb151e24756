"""The command line: commands, tables, progress, and the demo file."""
