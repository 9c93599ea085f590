"""The origin of source files: whole files for pictures, ranges of them for artifacts."""
