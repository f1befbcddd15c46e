#!/bin/sh
# Print the path of the first of the given commands that is a Python this book runs on.
# Each candidate is run, not looked up: a version manager's shim exists and yet may fail.
for candidate in "$@"; do
  if "$candidate" -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
    "$candidate" -c 'import sys; print(sys.executable)'
    exit 0
  fi
done
echo "This book needs Python 3.11, 3.12 or 3.13 with its venv module, and none was found as: $*; install one, or name it with 'make PYTHON=/path/to/python'." >&2
exit 1
