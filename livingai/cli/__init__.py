"""The command line. :mod:`livingai.cli.main` has the group and the table of its commands."""
