"""Results as a data set of FiftyOne, for `fiftyone.Dataset.from_json`."""

from __future__ import annotations

import base64
import hashlib
import io
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from vlad.formats.records import Record

_LABELS = "fiftyone.core.fields.EmbeddedDocumentField(fiftyone.core.labels.{})"
_FIELDS = {
    "filepath": "fiftyone.core.fields.StringField",
    "tags": "fiftyone.core.fields.ListField(fiftyone.core.fields.StringField)",
    "metadata": "fiftyone.core.fields.EmbeddedDocumentField(fiftyone.core.metadata.ImageMetadata)",
    "pred_score": "fiftyone.core.fields.FloatField",
    "verdict": _LABELS.format("Classification"),
    "anomalies": _LABELS.format("Detections"),
}


def to_fiftyone(records: Iterable[Record], name: str) -> dict[str, Any]:
    """A data set: each picture with its score, the verdict as a classification, and its marked places as detections with masks."""
    samples = [_sample(record) for record in records]
    return {"name": name, "media_type": "image", "info": {"made_by": "vlad"}, "sample_fields": _FIELDS, "samples": samples}


def _sample(record: Record) -> dict[str, Any]:
    height, width = record.size
    path = str(Path(record.path).absolute())
    sample: dict[str, Any] = {"filepath": path, "tags": [], "metadata": None, "pred_score": record.row["pred_score"], "verdict": None}
    label = record.row.get("pred_label")
    if label is not None:
        sample["verdict"] = _label("Classification", path, label="anomalous" if label else "normal", confidence=record.row["pred_score"])
    found = []
    for number, (region, part) in enumerate(record.parts()):
        left, top, right, bottom = region["box"]
        box = [left / width, top / height, (right - left) / width, (bottom - top) / height]
        values: dict[str, Any] = {"label": "anomaly", "bounding_box": box, "confidence": region["peak"], "attributes": {}}
        if part is not None:
            values["mask"] = {"$binary": {"base64": _packed(part[top:bottom, left:right]), "subType": "00"}}
        found.append(_label("Detection", f"{path}:{number}", **values))
    return sample | {"anomalies": {"_cls": "Detections", "detections": found}}


def _label(kind: str, of: str, **values: Any) -> dict[str, Any]:
    identity = hashlib.sha256(f"{kind} {of}".encode("utf-8", "surrogateescape")).hexdigest()[:24]  # as long as an ObjectId of its database
    return {"_id": {"$oid": identity}, "_cls": kind, "tags": [], **values}


def _packed(mask: np.ndarray) -> str:
    """As FiftyOne keeps arrays: .npy, deflated."""
    file = io.BytesIO()
    np.save(file, mask, allow_pickle=False)
    return base64.b64encode(zlib.compress(file.getvalue())).decode("ascii")
