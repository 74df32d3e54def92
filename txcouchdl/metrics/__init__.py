"""What operators see: numbers of what happens, of all processes together, and whether we can serve."""
