"""About: what this is, what was measured, where it fails, licence, how to cite."""

from html import escape

import gradio as gr

from vlad import __version__
from vlad.app.service import Service


def build(service: Service) -> None:
    """The tab's text."""
    measured = _LITE if service.model.startswith("lite") else ""
    gr.HTML(f'<article class="vlad-about">{_what(service)}{_READING}{measured}{_FAILS}{_yours(service)}{_REST}</article>')


def _what(service: Service) -> str:
    return f"""<h2>What this is</h2>
<p>vlad looks at a picture of a part, a surface or a scene and says whether something is wrong, and where, without being trained for it.
With words alone it compares what it sees, window by window, with sentences for "normal" and for "anomalous" (the algorithm is WinCLIP's).
Given a few good pictures it compares with those as well; that is far better. This page runs <b>{escape(service.model)}</b>, vlad
{escape(__version__)}.</p>"""


def _yours(service: Service) -> str:
    limits = service.limits
    minutes, size, pixels = limits.idle_seconds // 60, limits.file_bytes // 2**20, limits.pixels // 10**6
    elsewhere = "Nothing is counted or sent elsewhere."
    if service.vlm is not None:
        elsewhere = f"Nothing is counted. What you ask in the tab Ask goes to {escape(service.vlm_name)} together with the picture."
    return f"""<h2>Your pictures</h2>
<p>Pictures, good pictures and answers belong to your page alone. The server forgets them when you close it; uploaded files
and files for download are deleted {minutes} to {minutes + 10} minutes after they came. {elsewhere} Limits: {size} MB and {pixels}
megapixels a picture, {limits.pictures} pictures a batch, {limits.references} good pictures.</p>"""


_READING = """<h2>How to read a result</h2>
<p>The score lies between 0 and 1, and above the threshold vlad says that something looks wrong. The colours are absolute: the threshold has
the same colour in every picture, so a good part stays cold. Dark violet is normal, yellow is anomalous; the scale can be told apart with
every kind of colour vision, and marked places are outlined too. The score alone says whether something looks wrong, the map
where; a picture called normal has no marked place.</p>"""

_LITE = """<h2>What was measured</h2>
<p>The embedded model was trained on procedural pictures and has never seen a photograph of a real defect. It is there so that everything
runs without a download; a CLIP finds more. Image AUROC / pixel AUROC:</p>
<div class="vlad-table"><table><thead><tr><th scope="col">pictures</th><th scope="col">words alone</th><th scope="col">four good
pictures</th></tr></thead><tbody>
<tr><th scope="row">MVTec AD bottle (83)</th><td>0.915 / 0.883</td><td>1.000 / 0.989</td></tr>
<tr><th scope="row">hazelnut (23)</th><td>0.951 / 0.985</td><td>1.000 / 0.991</td></tr>
<tr><th scope="row">synthetic, 7 categories never trained on (280)</th><td>0.821 / 0.990</td><td></td></tr>
</tbody></table></div>
<p>Two real categories are a small sample. The examples here are pictures of the kind it was trained on: they show how vlad works, not how
well. In the tab Ask the describer names the place rightly in five of six procedural pictures, the type of defect in four of ten of the
kinds that the model knows, and never in the others.</p>"""

_FAILS = """<h2>Where it fails</h2>
<ul><li>The embedded model's words do not decide about one picture: it stays undecided without good ones, or a batch.</li>
<li>A batch that is judged by itself takes what most pictures show for normal, whatever that is.</li>
<li>From one to three good pictures a threshold is a guess. With <code>--calibration conformal</code> 19 promise 5 % false alarms on
average, 99 promise 1 %.</li>
<li>Print, holes and edges that belong there may be called defects where no good picture shows them.</li>
<li>Missing, extra or swapped parts, and a wrong colour all over, often leave no place that differs.</li>
<li>It is no certified inspector. Do not let it decide alone.</li></ul>"""

_REST = """<h2>For programs</h2>
<p>Every action is an endpoint for <code>gradio_client</code> and, where no password is asked
for, an MCP tool (see "Use via API" below); <code>POST /v1/detect</code> takes a picture and gives JSON, <code>GET /healthz</code> says
whether the server lives.</p>
<h2>Licence and citing</h2>
<p>Apache-2.0. The algorithm is by Jeong et al., <i>WinCLIP: Zero-/Few-Shot Anomaly Classification and Segmentation</i>, CVPR 2023,
<a href="https://arxiv.org/abs/2303.14814" rel="noopener" target="_blank">arXiv 2303.14814</a>; cite it, and vlad with its version.</p>"""
