"""
Several processes that answer on the same ports.

The *crew* is the process that twistd started. It listens, and accepts nobody; it runs the embedded store, writes the
log, and starts the workers anew when they die. A *worker* is a gateway in a process of its own, on sockets that it has
inherited.
"""
