"""Where the job runs: what a cluster has."""
