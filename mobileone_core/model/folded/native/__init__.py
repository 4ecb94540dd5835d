"""C sources, built into one library at first use where there is a C compiler, and their operators of torch."""
