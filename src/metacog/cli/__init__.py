"""The command line: the composition root. It parses first and imports torch after."""
