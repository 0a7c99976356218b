"""`python -m volflow`: the command line without its entry point."""

from volflow.cli import main

main(prog_name="volflow")
