"""A page for people: the unlabelled pictures that were left out of the references, each beside its heat map, in one file."""

from __future__ import annotations

import base64
import html
import io
import os
from string import Template
from typing import TYPE_CHECKING

import numpy as np

from vlad.errors import ImageReadError
from vlad.pictures.reading import DEFAULT_READER, Reader, describe_source
from vlad.untrusted import cleaned
from vlad.visualization import draw_heat

if TYPE_CHECKING:
    from vlad.references.report import FitReport
    from vlad.references.unlabelled import Judged

MOST = 200  # pictures shown; a page of more would weigh more than 10 MB
_SIDE = 320  # pixels of the longer side of a thumbnail

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Left out: $count of $all pictures</title>
<style>
:root { --ink: #18181b; --faint: #64748b; --rule: #e2e8f0; --paper: #fff; --wash: #f8fafc; --bar: #e2e8f0; --hot: #e11d48; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #f4f4f5; --faint: #a1a1aa; --rule: #3f3f46; --paper: #18181b; --wash: #232327; --bar: #3f3f46; --hot: #fb7185; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 6px; letter-spacing: -0.01em; }
p { margin: 6px 0; max-width: 46rem; }
.faint { color: var(--faint); font-size: 0.87rem; }
.cases { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 340px), 1fr)); gap: 16px; margin-top: 26px; }
figure { margin: 0; border: 1px solid var(--rule); border-radius: 12px; background: var(--wash); overflow: hidden; break-inside: avoid; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 2px; background: var(--rule); }
.pair div { aspect-ratio: 1; display: grid; place-items: center; background: var(--paper); color: var(--faint);
  font-size: 0.8rem; overflow: hidden; }
.pair img { width: 100%; height: 100%; object-fit: contain; display: block; }
figcaption { padding: 10px 14px 12px; }
.name { font-weight: 600; overflow-wrap: anywhere; }
.meter { position: relative; height: 6px; border-radius: 3px; background: var(--bar); margin: 9px 0 5px; }
.meter i { position: absolute; inset: 0 auto 0 0; width: var(--w); border-radius: 3px; background: var(--hot); }
.meter b { position: absolute; top: -3px; bottom: -3px; left: var(--t); width: 2px; background: var(--ink); }
.numbers { display: flex; justify-content: space-between; gap: 12px; font-size: 0.87rem; font-variant-numeric: tabular-nums; }
</style>
</head>
<body>
<main>
<h1>$count of $all pictures were left out</h1>
<p>$why The other $kept are what this detector takes for
normal. It cannot know whether what stands out is a defect, so look here: if a good picture was left out, its kind is missing among the
references (<code>add_references</code>); if a bad one is missing here, it is among them (<code>remove_references</code>).</p>
<p class="faint">$model. Left the picture, right its heat map, where the outline holds what is above the threshold of pixels. The bar is the
score, the mark in it the threshold.$more</p>
<div class="cases">
$cases</div>
</main>
</body>
</html>
""")
_CASE = Template("""<figure>
<div class="pair"><div>$picture</div><div>$heat</div></div>
<figcaption><div class="name" title="$path">$name</div>
<div class="meter" style="--w: $width%; --t: $mark%"><i></i><b></b></div>
<div class="numbers"><span>score $score</span><span class="faint">threshold $threshold</span></div></figcaption>
</figure>
""")


def left_out_page(report: FitReport, kept: int, model: str, *, read: Reader = DEFAULT_READER) -> str:
    """HTML of the pictures that stood out, the highest score first. The files are read again; of one that is gone there is no thumbnail.

    Args:
        report: of `fit_unlabelled`.
        kept: number of references that remained.
        model: what the maps were made with.
        read: how the detector reads pictures.
    """
    shown = report.scored()[:MOST]
    top = max((score for _, score in shown), default=1.0)
    more = f" The highest {MOST} are shown." if len(report.stood_out) > MOST else ""
    why = "None stands out."
    if shown:
        why = f"They stand out from the other pictures of the folder: their scores are above {shown[0][0].threshold:.3f}."
    return _PAGE.substitute(
        count=len(report.stood_out),
        all=len(report.stood_out) + kept,
        kept=kept,
        why=why,
        model=html.escape(model),
        more=more,
        cases="".join(_case(one, score, top, read) for one, score in shown),
    )


def _case(one: Judged, score: float, top: float, read: Reader) -> str:
    path = cleaned(describe_source(one.source)) if isinstance(one.source, (str, os.PathLike)) else "a picture that came as data"
    picture, heat = _drawn(one, read)
    threshold = one.threshold or 0.0
    return _CASE.substitute(
        picture=picture,
        heat=heat,
        path=html.escape(path),
        name=html.escape(path.replace(os.sep, "/").rpartition("/")[2]),
        width=f"{100 * score / max(top, 1e-9):.1f}",
        mark=f"{100 * threshold / max(top, 1e-9):.1f}",
        score=f"{score:.3f}",
        threshold=f"{threshold:.3f}",
    )


def _drawn(one: Judged, read: Reader) -> tuple[str, str]:
    """The picture and its heat as `img` elements, or a word on why there is none."""
    try:
        pixels = read(one.source)
    except ImageReadError:
        pixels = None
    values = one.heat()
    if values is None or pixels is None or pixels.shape[:2] != one.size:
        return "not there any more", ""
    limit = 0.5 if one.mask_threshold is None else one.mask_threshold
    plain = draw_heat(pixels, np.zeros_like(values), threshold=limit, max_side=_SIDE)
    return _img(plain, ""), _img(draw_heat(pixels, values, threshold=limit, mask=values > limit, max_side=_SIDE), "heat map")


def _img(pixels: np.ndarray, alt: str) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=82)
    return f'<img alt="{alt}" src="data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}">'
