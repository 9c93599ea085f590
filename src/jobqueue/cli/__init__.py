"""The command line: one module a noun. A command imports what it needs only when it runs."""
