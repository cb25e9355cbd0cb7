"""`python -m cli` is `ops`: how the room starts its own commands, whatever PATH says."""

from cli.main import main

if __name__ == "__main__":
    main()
