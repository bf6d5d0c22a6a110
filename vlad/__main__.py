"""`python -m vlad` is the command `vlad`."""

from vlad.cli import main

main()
