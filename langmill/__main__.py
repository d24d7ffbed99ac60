"""`python -m langmill`, which torchrun needs. [cli]"""

from langmill.cli.main import main

if __name__ == "__main__":
    main()
