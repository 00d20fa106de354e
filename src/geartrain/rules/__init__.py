"""Ground floor: data and decisions. Nothing here waits, reads a clock, draws a number or opens a file."""
