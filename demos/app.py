"""The web demo for a hosted Space, whose address is public: every visitor has references and answers of their own, see `vlad.app`."""

from __future__ import annotations

import os

from vlad import AnomalyDetector
from vlad.app.examples import find_example_batch, find_examples
from vlad.app.server import listen, serve
from vlad.app.service import Limits, Service
from vlad.vlm.backends import load_vlm


def main() -> None:
    """Serve on the host and port that Gradio's own variables name."""
    host = os.environ.get("GRADIO_SERVER_NAME", "0.0.0.0")  # a Space is reached through its proxy alone
    sock = listen(host, int(os.environ.get("GRADIO_SERVER_PORT", "7860")))
    detector = AnomalyDetector.from_pretrained(os.environ.get("VLAD_DEMO_MODEL", "lite"))
    service = Service(detector, load_vlm(os.environ.get("VLAD_DEMO_VLM")), Limits(pictures=100), find_examples(), find_example_batch())
    serve(service, sock, host=host)


if __name__ == "__main__":
    main()
