"""`python -m gatte_pipelines.cli`."""

from gatte_pipelines.cli import main

main()
