"""Metrics as a scraper gets them: over HTTP, parsed by prometheus_client's parser."""

from __future__ import annotations

import http.client
import json
import os
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from tests.support.patience import patience
from tests.support.place import Place
from tests.support.waiting import until


class Answer(NamedTuple):
    """An answer to a GET."""

    status: int
    text: str
    content_type: str


class Scrape:
    """The samples of a page, by the text of their series: ``name{label="value"}``."""

    def __init__(self, text: str) -> None:
        self.samples: dict[str, float] = {}
        self.types: dict[str, str] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = ",".join(f'{k}="{v}"' for k, v in sorted(sample.labels.items()))
                series = f"{sample.name}{{{labels}}}" if labels else sample.name
                assert series not in self.samples, f"{series} is there twice"
                self.samples[series] = sample.value
                self.types[series] = family.type

    def __getitem__(self, series: str) -> float:
        return self.samples[series]

    def counters(self) -> dict[str, float]:
        """Those that may only grow."""
        growing = ("counter", "histogram")
        return {k: v for k, v in self.samples.items() if self.types[k] in growing}

    def saves(self) -> Counter[str]:
        """``livingai_saves_total`` by outcome."""
        found: Counter[str] = Counter()
        for series, value in self.samples.items():
            if series.startswith("livingai_saves_total{"):
                found[series.split('outcome="')[1].split('"')[0]] += int(value)
        return found


def address_of(place: Place) -> str:
    """Where a service's metrics are served, once they are."""

    def look() -> str:
        path = os.path.join(place.directory.path, "service.metrics")
        with suppress(OSError, ValueError), open(path, encoding="utf-8") as file:
            return str(json.load(file)["address"])
        return ""

    return until(look, what="an exporter that listens")


def get(address: str, path: str, timeout: float = 20.0, **headers: str) -> Answer:
    """GET a page. Raises OSError."""
    connection = http.client.HTTPConnection(address, timeout=patience(timeout))
    with closing(connection):
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            text = answer.read().decode()
        except http.client.HTTPException as error:
            raise OSError(repr(error)) from error
        return Answer(answer.status, text, answer.headers.get("Content-Type", ""))


def scrape(address: str) -> Scrape:
    """The page of metrics. Raises OSError where there is none."""
    answer = get(address, "/metrics")
    if answer.status != 200:
        raise OSError(answer.text)
    return Scrape(answer.text)


def scrape_until(
    address: str, fits: Callable[[Scrape], object], *, what: str, timeout: float = 30.0
) -> Scrape:
    """The first page that fits."""

    def look() -> list[Scrape]:
        page = scrape(address)
        return [page] if fits(page) else []

    return until(look, what=what, timeout=timeout)[0]
