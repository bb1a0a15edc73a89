"""`python -m zactor` is the `zactor` command."""

from zactor.cli.main import main

if __name__ == "__main__":
    main()
