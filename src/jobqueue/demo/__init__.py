"""The whole system on one machine: embedded servers for `jobqueue demo` and for the tests."""
