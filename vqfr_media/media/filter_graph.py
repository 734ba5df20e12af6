"""FFmpeg's filters for pictures, through PyAV."""

from collections.abc import Iterator

import av
from av.filter import Graph
from av.filter.context import FilterContext


def link(graph: Graph, source: FilterContext, name: str, *arguments: str) -> None:
    """Leads a source's pictures through a filter to the graph's end, and closes the graph.

    Raises:
        FFmpegError, ValueError: there is no such filter, or it does not take such pictures.
    """
    made, sink = graph.add(name, *arguments), graph.add("buffersink")
    source.link_to(made)
    made.link_to(sink)
    graph.configure()


def pulled(graph: Graph) -> Iterator[av.VideoFrame]:
    """Yields the pictures that have come to the graph's end, until it wants more."""
    while True:
        try:
            picture = graph.pull()
        except (BlockingIOError, EOFError):
            return
        assert isinstance(picture, av.VideoFrame)  # noqa: S101 - no sound goes in
        yield picture
