"""``python -m vitrail``: the command line, also where no script is on the path."""

from vitrail.cli import main

if __name__ == "__main__":
    main()
