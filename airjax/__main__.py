"""``python -m airjax`` is ``airjax``."""

from airjax.cli.main import main

if __name__ == "__main__":
    main()
