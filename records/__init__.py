"""The types that flow: items, media, stage outcomes, their Arrow schemas, fingerprints and errors. No I/O."""
