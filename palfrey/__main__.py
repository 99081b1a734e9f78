"""`python -m palfrey` is the `palfrey` command."""

from palfrey.cli import main

if __name__ == "__main__":
    main()
