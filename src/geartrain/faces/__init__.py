"""What a person or another program sees of a pipeline: the command line."""
