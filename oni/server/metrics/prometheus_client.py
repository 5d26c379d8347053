"""The figures as Prometheus reads them, by ``prometheus_client``.

Only this module needs it: it is in the extra ``server``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from oni.server.metrics._figures import FIGURES, Figure
from oni.server.metrics._tally import Histogram

__all__ = ["Exposition"]

_Values = Mapping[tuple[str, ...], int | float | Histogram]


class Exposition(Collector):
    """Writes the figures of one daemon, in a registry of its own.

    The process's global registry is the application's: nothing of it is told here.

    Args:
        read: Gives each figure's values by the values of its labels.
    """

    def __init__(self, read: Callable[[], Mapping[str, _Values]]) -> None:
        self._read = read
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def write(self, accept: str) -> tuple[bytes, str]:
        """Write all figures.

        Args:
            accept: What the reader understands, as its header says. Where that says nothing that
                makes sense, it is the text format.

        Returns:
            The text and its content type.
        """
        try:
            encode, kind = choose_encoder(accept)
        except (TypeError, ValueError):  # it names a version that is none
            encode, kind = choose_encoder("")
        return encode(self._registry), kind

    def collect(self) -> Iterator[Metric]:
        """Give every figure; it is called for each reading."""
        values = self._read()
        for figure in FIGURES:
            yield _family(figure, values[figure.name])


def _family(figure: Figure, values: _Values) -> Metric:
    if figure.kind == "histogram":
        histogram = HistogramMetricFamily(figure.name, figure.help, labels=figure.labels)
        for labels, value in values.items():
            if isinstance(value, Histogram):
                histogram.add_metric(labels, _buckets(value), value.total)
        return histogram
    kind = CounterMetricFamily if figure.kind == "counter" else GaugeMetricFamily
    family = kind(figure.name, figure.help, labels=figure.labels)
    for labels, value in values.items():
        if not isinstance(value, Histogram):
            family.add_metric(labels, value)
    return family


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """Give the upper bounds with how many values are not above each."""
    bounds = [*(f"{bound:g}" for bound in histogram.bounds), "+Inf"]
    found, so_far = [], 0
    for bound, count in zip(bounds, histogram.counts, strict=True):
        so_far += count
        found.append((bound, float(so_far)))
    return found
