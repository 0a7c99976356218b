"""`python -m volflow.cli`: the command line without its entry point."""

from volflow.cli import main

main(prog_name="volflow")
