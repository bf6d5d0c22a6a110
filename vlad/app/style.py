"""The look: system fonts (nothing is fetched), light and dark, one accent, heights that do not jump."""

import gradio as gr

HEIGHT = 420  # of pictures and maps, in pixels
PAIR = 356  # of the picture beside its map, so that verdict, thresholds and map are seen at once on a laptop


def theme() -> gr.themes.Base:
    """Violet and orange are the ends of the heat map's colours."""
    system = (gr.themes.Font("system-ui"), gr.themes.Font("-apple-system"), gr.themes.Font("Segoe UI"), gr.themes.Font("sans-serif"))
    mono = (gr.themes.Font("ui-monospace"), gr.themes.Font("monospace"))
    return gr.themes.Soft(
        primary_hue="violet", secondary_hue="orange", neutral_hue="zinc", font=system, font_mono=mono, radius_size="md"
    ).set(
        body_text_color_subdued="#52525b",
        body_text_color_subdued_dark="#a1a1aa",
        border_color_primary="#d4d4d8",
        border_color_primary_dark="#3f3f46",
        block_border_width="1px",
        block_label_background_fill="*background_fill_secondary",
        block_label_background_fill_dark="*background_fill_secondary",
        block_label_text_color="*body_text_color_subdued",
        block_label_text_color_dark="*body_text_color_subdued",
        block_label_text_weight="500",
        block_title_background_fill="transparent",
        block_title_background_fill_dark="transparent",
        block_title_text_color="*body_text_color",
        block_title_text_color_dark="*body_text_color",
        block_title_text_weight="600",
        block_title_padding="0",
        button_primary_background_fill="#6d28d9",
        button_primary_background_fill_dark="#7c3aed",
        button_primary_background_fill_hover="#5b21b6",
        button_primary_background_fill_hover_dark="#6d28d9",
        input_border_width="1px",
        input_border_width_dark="1px",
        input_border_color="*border_color_primary",
        input_border_color_dark="*border_color_primary",
        button_border_width="1px",
        button_border_width_dark="1px",
        button_secondary_border_color="*border_color_primary",
        button_secondary_border_color_dark="*border_color_primary",
        checkbox_border_color="#71717a",
        checkbox_border_color_dark="#a1a1aa",
    )


# Gradio puts its own classes before every rule of `CSS`, so what lies outside the page's content needs a style of its own.
HEAD = """<style>
.gradio-container { max-width: 1240px !important; margin: 0 auto !important; }
.gradio-container .main { padding-top: 10px !important; gap: 8px !important; }
@media (max-width: 640px) {
  #threshold, #map-threshold { min-width: 46% !important; }
  .gradio-container { width: 100vw !important; max-width: 100vw !important; min-width: 0 !important; overflow-x: hidden; }
  .gradio-container .main, .gradio-container .wrap, .gradio-container main { min-width: 0 !important; }
  .gradio-container .main { padding-left: 14px !important; padding-right: 14px !important; }
}
</style>"""
CSS = """
.vlad-top { display: flex; flex-wrap: wrap; align-items: baseline; gap: .1rem 1rem; padding: 0; }
.vlad-top h1 { font-size: 1.45rem; line-height: 1.2; margin: 0; font-weight: 700; letter-spacing: -.01em; }
.vlad-top p { margin: 0; color: var(--body-text-color-subdued); flex-basis: 100%; max-width: 68rem; font-size: .92rem; }
.vlad-top .vlad-model { font-size: .82rem; flex-basis: auto; }
.vlad-card { border-radius: 12px; padding: .65rem 1.1rem; box-shadow: 0 0 0 1px var(--border-color-primary);
  border-left: 8px solid #71717a !important; background: var(--background-fill-primary); min-height: 168px; }
.vlad-card.vlad-bad { border-left-color: #ea580c !important; } .vlad-card.vlad-good { border-left-color: #0d9488 !important; }
.vlad-head { display: flex; gap: .9rem; align-items: center; }
.vlad-head h2 { margin: 0; font-size: 1.35rem; line-height: 1.25; } .vlad-head p { margin: 0; }
.vlad-mark { flex: none; width: 2.6rem; height: 2.6rem; border-radius: 50%; display: grid; place-items: center; font-size: 1.5rem;
  font-weight: 800; color: #fff; background: #71717a; }
.vlad-bad .vlad-mark { background: #c2410c; } .vlad-good .vlad-mark { background: #0f766e; }
.vlad-bar { position: relative; height: 12px; border-radius: 6px; margin: .5rem 0 .15rem; border: 1px solid var(--border-color-primary); }
.vlad-bar.vlad-thin { height: 8px; margin: 0; }
.vlad-bar::after { content: ""; position: absolute; left: 50%; top: -4px; bottom: -4px; width: 2px; background: var(--body-text-color); }
.vlad-bar i { position: absolute; top: -5px; width: 8px; height: 20px; margin-left: -4px; border-radius: 4px; background: #fff;
  border: 2px solid #18181b; z-index: 1; }
.vlad-scale { display: flex; justify-content: space-between; font-size: .78rem; color: var(--body-text-color-subdued); }
.vlad-facts, .vlad-note { margin: .25rem 0 0; font-size: .82rem; color: var(--body-text-color-subdued); }
.vlad-quiet { color: var(--body-text-color-subdued); font-size: .9rem; margin: .3rem 0; }
.vlad-legend { padding: 0 .2rem; }
.vlad-table { overflow-x: auto; } .vlad-table table { width: 100%; border-collapse: collapse; font-size: .88rem; }
.vlad-table caption { text-align: left; color: var(--body-text-color-subdued); padding-bottom: .3rem; }
.vlad-table table, .vlad-table tr { border: 0 !important; }
.vlad-table th, .vlad-table td { text-align: left; padding: .3rem .8rem .3rem 0 !important; border: 0 !important; vertical-align: top;
  border-bottom: 1px solid var(--border-color-primary) !important; font-weight: 400; }
.vlad-table thead th { color: var(--body-text-color-subdued); } .vlad-table tbody th { font-weight: 700; }
.vlad-label { font-size: .95rem; margin: 0 0 -.6rem !important; }
.vlad-histogram { width: 100%; height: auto; max-height: 240px; font-size: 11px; overflow: visible; }
.vlad-histogram text { fill: var(--body-text-color-subdued); }
.vlad-histogram .vlad-cold { fill: #6d28d9; } .vlad-histogram .vlad-hot { fill: #f97316; }
.vlad-histogram .vlad-good-bar { fill: #0d9488; } .vlad-histogram .vlad-bad-bar { fill: #ea580c; }
.vlad-histogram .vlad-limit { stroke: var(--body-text-color); stroke-width: 2; stroke-dasharray: 5 3; }
.vlad-histogram .vlad-axis { stroke: var(--border-color-primary); }
.vlad-bench { border-left: 4px solid #7c3aed; padding: .1rem .8rem; min-height: 2.9rem; } .vlad-bench p { margin: 0; line-height: 1.45; }
.vlad-stale { color: #c2410c; font-size: .9rem; margin: .3rem 0; } .dark .vlad-stale { color: #fb923c; }
.vlad-code { font: .86rem/1.5 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere; padding: .6rem .8rem; margin: 0;
  background: var(--background-fill-secondary); border: 1px solid var(--border-color-primary); border-radius: 8px; }
.vlad-summary { min-height: 3.2rem; } .vlad-summary b { font-size: 1.1rem; }
.vlad-failed { margin: .4rem 0 0; padding-left: 1.1rem; font-size: .86rem; }
.vlad-about h2 { margin-top: 1.1rem; } .vlad-about table { border-collapse: collapse; margin: .5rem 0; }
.vlad-about { max-width: 52rem; line-height: 1.55; }
.vlad-about code { font-size: .88em; }
footer .divider, footer > span { display: none; }
#examples .caption-label { inset: auto 0 0 0; max-width: 100%; margin: 0; padding: .1rem .3rem; font-size: .76rem; text-align: center;
  border-radius: 0; }
#map-threshold label span, #threshold label span { font-size: .84rem; }
.vlad-grid .caption-label { inset: auto 0 0 0; max-width: 100%; margin: 0; padding: .1rem .35rem; font-size: .74rem; line-height: 1.3;
  white-space: pre; overflow: hidden; text-overflow: ellipsis; border-radius: 0; }
#examples button:focus-visible, .vlad-grid button:focus-visible { outline: 3px solid #f97316; outline-offset: 1px; }
#bench-head { padding: 0; margin: -6px 0; } #bench-only .wrap { flex-wrap: nowrap; gap: 4px; }
#bench-only label { padding: 4px 7px; font-size: .8rem; }
#batch-histogram .vlad-histogram { max-height: 130px; }
.grid-container { grid-template-columns: repeat(var(--grid-cols), minmax(0, 1fr)) !important; }
footer .divider { display: none !important; }
@media (max-width: 640px) {
  /* one column, and what was found comes right after the examples */
  .tabitem, .row, .vlad-table { min-width: 0 !important; max-width: 100% !important; }
  #places th, #places td { white-space: nowrap; }
  #inspect-row { flex-direction: column; flex-wrap: nowrap; }
  #inspect-left, #inspect-right { display: contents; }
  #inspect-left > *, #inspect-right > * { order: 9; width: 100%; }
  #examples-title, #examples, .form:has(#with-references) { order: 1 !important; }
  #verdict, #pair, #pair-legend, #limits { order: 2 !important; }
  #pair { order: 3 !important; } #pair-legend { order: 4 !important; } #limits { order: 5 !important; }
  #examples .caption-label { white-space: normal; line-height: 1.15; }
  .vlad-top p:not(.vlad-model), #opacity, #pair-legend, #places-drawn { display: none !important; }
  .vlad-top .vlad-model { font-size: .72rem; }
  #examples, #examples .grid-wrap { height: 118px !important; }
  #examples .grid-container { grid-template-columns: repeat(8, 84px) !important; overflow-x: auto; }
  #picture { height: 152px !important; } #picture .image-container { height: 142px !important; }
  #download-png, #download-json, #download-map { font-size: .74rem; padding: 4px; }
  .gradio-container { --layout-gap: 8px; --block-padding: 8px 10px; }
  #tabs > .tab-wrapper button, #bench-steps > .tab-wrapper button { padding: 4px 6px; font-size: .8rem; }
  #inspect-row, #bench-look-row, #bench-look-row .column { gap: 8px; }
  #bench-gallery, #bench-gallery .grid-wrap { height: 226px !important; } #bench-files { height: 104px !important; }
  #bench-pair, #bench-pair > .wrap { max-height: 250px; }
  #editor { height: 460px !important; }
  #pair, #pair > .wrap { max-height: 300px; }
  .vlad-grid .grid-container { grid-template-columns: repeat(2, minmax(0, 1fr)) !important; }
  .vlad-top h1 { font-size: 1.02rem; }
  .vlad-card { padding: .8rem; } .vlad-head h2 { font-size: 1.15rem; }
}
@media (prefers-reduced-motion: reduce) { * { animation: none !important; transition: none !important; } }
"""
