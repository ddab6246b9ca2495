"""Entry points: `python -m jobs.<verb>`, one a file, thin: parse, wire, report."""
