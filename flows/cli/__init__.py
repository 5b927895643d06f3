"""The command `iml`: one module per group of commands; heavy imports stay inside the commands."""
