"""`python -m kdaudit`."""

from kdaudit.cli.main import main

main()
