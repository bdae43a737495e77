"""Which frames of a clip to look at. Pure."""


def uniform(frame_count: int, wanted: int) -> list[int]:
    """Spreads `wanted` frames evenly: the middles of as many equal parts of the clip.

    Middles rather than ends, because the first and last frame of a clip are often black or a fade.

    Args:
        frame_count: Frames in the clip, 0 or more.
        wanted: Frames to pick, 1 or more.

    Returns:
        Ascending frame indices without repeats: min(frame_count, wanted) of them.
    """
    if frame_count <= wanted:
        return list(range(frame_count))
    return [(2 * i + 1) * frame_count // (2 * wanted) for i in range(wanted)]
