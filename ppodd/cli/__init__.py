"""The command line: `ppodd COMMAND`. Each command's module imports what it needs when it runs, not before."""
