"""C sources, built into one library at first use where the machine has a C compiler, and their operators of torch."""
