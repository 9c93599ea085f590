"""The command line: one module a noun, each of which imports what its commands need only when they run."""
