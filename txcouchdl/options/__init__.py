"""
What an operator says, on the command line, in the environment and in a file, into checked settings.

The options are declared once, in :mod:`~txcouchdl.options.table`. A command line's beat those of the environment, and
these those of a file.
"""

from txcouchdl.options.command_line import Options

__all__ = ["Options"]
