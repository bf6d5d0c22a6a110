"""Results as COCO: pictures, and each marked place with its box, its run-length mask and its peak as score."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from vlad.formats.records import Record
from vlad.pictures.rle import Rle

CATEGORY = {"id": 1, "name": "anomaly", "supercategory": "anomaly"}


def to_coco(records: Iterable[Record]) -> dict[str, Any]:
    """A COCO data set; pictures carry `pred_score`, `threshold` and `pred_label` as well. Places without a mask file have a box alone."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, record in enumerate(records, start=1):
        height, width = record.size
        own = {key: record.row.get(key) for key in ("pred_score", "threshold", "pred_label", "model")}
        images.append({"id": number, "file_name": record.path, "width": width, "height": height, **own})
        for region, part in record.parts():
            left, top, right, bottom = region["box"]
            found = {"id": len(annotations) + 1, "image_id": number, "category_id": CATEGORY["id"], "iscrowd": 0}
            found |= {"bbox": [left, top, right - left, bottom - top], "area": region["area"], "score": region["peak"]}
            if part is not None:
                rle = Rle.of(part)
                found["segmentation"] = {"size": list(rle.size), "counts": rle.counts}
            annotations.append(found)
    return {"info": {"description": "marked by vlad"}, "images": images, "annotations": annotations, "categories": [CATEGORY]}


def outlines(mask: np.ndarray) -> list[np.ndarray]:
    """Outer outlines of a bool mask (H, W), each float (N, 2) of corners (x, y) around its pixels."""
    import cv2

    # Twice the size, so that an outline through the centres of the outer pixels becomes one around them.
    large = mask.astype(np.uint8).repeat(2, 0).repeat(2, 1)
    found, _ = cv2.findContours(large, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return [(one[:, 0].astype(np.float64) + 0.5) / 2 for one in found if len(one) >= 3]
