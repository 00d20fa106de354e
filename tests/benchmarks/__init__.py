"""Figures of geartrain beside those of the library it was inspired by, in one run: `make bench`."""
