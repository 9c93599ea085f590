"""`python -m jobqueue` is the command `jobqueue`."""

from jobqueue.cli.main import main

if __name__ == "__main__":
    main()
