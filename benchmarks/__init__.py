"""
What this gateway costs beside what people would otherwise put in front of CouchDB: ``python -m benchmarks``.

It needs Linux, the ``benchmarks`` dependency group, and nginx for the fast upstream. Everything it starts listens to
loopback alone, lives in a private temporary directory and is ended with it. ``docs/performance.rst`` says what is
measured and how to read it.
"""
