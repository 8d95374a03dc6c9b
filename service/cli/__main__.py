"""Lets ``python -m service.cli`` be ``thumbloop``."""

from service.cli import main

main()
