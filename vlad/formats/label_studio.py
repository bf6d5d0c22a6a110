"""Results as tasks of Label Studio with predictions, to be corrected there: outlines, boxes where there is no mask, and a choice."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from vlad.formats.coco import outlines
from vlad.formats.records import Record

CONFIG = """\
<View>
  <Image name="image" value="$image"/>
  <Choices name="verdict" toName="image"><Choice value="anomalous"/><Choice value="normal"/></Choices>
  <PolygonLabels name="outline" toName="image"><Label value="anomaly"/></PolygonLabels>
  <RectangleLabels name="box" toName="image"><Label value="anomaly"/></RectangleLabels>
</View>
"""


def to_label_studio(records: Iterable[Record], *, prefix: str = "/data/local-files/?d=") -> list[dict[str, Any]]:
    """Tasks for its import.

    Args:
        records: of a run.
        prefix: goes before each picture's path; the default is for Label Studio's local storage.
    """
    return [_task(record, prefix) for record in records]


def _task(record: Record, prefix: str) -> dict[str, Any]:
    height, width = record.size
    common = {"to_name": "image", "original_width": width, "original_height": height, "image_rotation": 0}
    results: list[dict[str, Any]] = []
    if (label := record.row.get("pred_label")) is not None:
        choice = {"from_name": "verdict", "type": "choices", "value": {"choices": ["anomalous" if label else "normal"]}}
        results.append(common | choice)
    for region, part in record.parts():
        left, top, right, bottom = region["box"]
        shapes = [] if part is None else outlines(part)
        for shape in shapes:
            points = [[100 * float(x) / width, 100 * float(y) / height] for x, y in shape]
            value: dict[str, Any] = {"points": points, "closed": True, "polygonlabels": ["anomaly"]}
            results.append(common | {"from_name": "outline", "type": "polygonlabels", "value": value, "score": region["peak"]})
        if not shapes:
            value = {"x": 100 * left / width, "y": 100 * top / height, "rotation": 0, "rectanglelabels": ["anomaly"]}
            value |= {"width": 100 * (right - left) / width, "height": 100 * (bottom - top) / height}
            results.append(common | {"from_name": "box", "type": "rectanglelabels", "value": value, "score": region["peak"]})
    numbered = [{"id": f"r{number}"} | one for number, one in enumerate(results)]
    prediction = {"model_version": str(record.row.get("model")), "score": record.row["pred_score"], "result": numbered}
    return {"data": {"image": f"{prefix}{quote(record.path, errors='surrogateescape')}"}, "predictions": [prediction]}
