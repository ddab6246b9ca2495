"""Every row that journals hold."""

from collections.abc import Iterator

from records.schemas import JournalRow
from storage.journals import journal_files
from storage.stores import Store


def read_journals(store: Store) -> Iterator[JournalRow]:
    """The rows of every run's journal, run by run, oldest file first."""
    for run_id in store.folders("runs/"):
        for file in journal_files(store, run_id):
            yield from file.read()
