"""python -m nsbench: the command line, also for torchrun."""

from nsbench.cli import main

if __name__ == "__main__":
    main()
