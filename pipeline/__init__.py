"""The plan, the Ray Data graph, the commit loop, progress and the run report."""
