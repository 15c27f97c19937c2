"""``python -m stratalog``: the same command line as the installed ``stratalog``."""

from stratalog.cli import main

if __name__ == "__main__":
    main(prog_name="stratalog")
