"""When things run: the flows, their settings, and the command line."""
