"""In which order Ray is asked for the workers of stages: it moves none later, so that the order decides what fits."""


def asking_order(stage: str, *, reads_media: bool, gpus: float) -> tuple[bool, bool, float]:
    """The place of a stage, to sort by: `decode` first and those of texts last, as rows pass them.

    Of those between, which do not read each other, the larger share of a GPU comes first: small ones would take what a
    large one then does not find whole.

    Args:
        stage: Its name.
        reads_media: Whether it works on frames or sound.
        gpus: Of one worker.
    """
    return stage != "decode", not reads_media, -gpus
