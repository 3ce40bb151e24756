"""The command line: commands and exit codes, tables and progress, the listing of a file, and the demo file."""
