"""Object stores and what lies in them: catalog, stage tables, journals, leases. The only side effects on data."""
