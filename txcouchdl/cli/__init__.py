"""The ``couchdl`` command: downloads that resume, for people, from this gateway or any other HTTP server."""
