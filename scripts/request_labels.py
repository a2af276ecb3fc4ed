"""``millrace request-labels``, as a script."""

from __future__ import annotations

import sys

from millrace import main

if __name__ == "__main__":
    main(["request-labels", *sys.argv[1:]])
