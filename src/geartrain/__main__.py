"""`python -m geartrain` is the command `geartrain`."""

import sys

from geartrain.faces.command_line import main

if __name__ == "__main__":
    sys.exit(main())
