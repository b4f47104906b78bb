"""The command line; :mod:`livingai.cli.main` is where it begins."""
