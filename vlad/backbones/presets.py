"""Names that stand for a model and its weights. A new one is a line here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    """A name that stands for a model and its weights; `source` is ARCHITECTURE:TAG, hf-hub:REPO, or timm:MODEL; `licence` is that of the
    weights, as their authors or the hub name it."""

    source: str
    description: str
    licence: str


_ALONE = "with reference pictures only"
PRESETS: dict[str, Preset] = {
    "winclip": Preset("ViT-B-16-plus-240:laion400m_e31", "the WinCLIP backbone: CLIP ViT-B/16+ at 240 px, LAION-400M", "MIT"),
    "clip-b16": Preset("ViT-B-16:openai", "OpenAI CLIP ViT-B/16 at 224 px", "MIT"),
    "clip-l14-336": Preset("ViT-L-14-336:openai", "OpenAI CLIP ViT-L/14 at 336 px", "MIT"),
    "siglip-b16": Preset("hf-hub:timm/ViT-B-16-SigLIP", "SigLIP ViT-B/16 at 224 px; needs the extra vlad-anomaly[vlm]", "Apache-2.0"),
    "siglip2-b16": Preset("hf-hub:timm/ViT-B-16-SigLIP2", "SigLIP 2 ViT-B/16 at 224 px; needs the extra vlad-anomaly[vlm]", "Apache-2.0"),
    "lite": Preset("lite", "embedded: frozen EfficientNet-Lite0 with a text-aligned head trained on procedural pictures", "Apache-2.0"),
    "lite-fine": Preset("lite", "lite looking twice, at 448 and 320 pixels, which takes half as long again", "Apache-2.0"),
    "dinov2-small": Preset("timm:vit_small_patch14_dinov2.lvd142m", f"DINOv2 ViT-S/14; {_ALONE}", "Apache-2.0"),
    "dinov2-base": Preset("timm:vit_base_patch14_dinov2.lvd142m", f"DINOv2 ViT-B/14; {_ALONE}", "Apache-2.0"),
    "dinov2-reg-small": Preset("timm:vit_small_patch14_reg4_dinov2.lvd142m", f"DINOv2 ViT-S/14 with registers; {_ALONE}", "Apache-2.0"),
    "dinov2-reg-base": Preset("timm:vit_base_patch14_reg4_dinov2.lvd142m", f"DINOv2 ViT-B/14 with registers; {_ALONE}", "Apache-2.0"),
    "dinov2-reg-large": Preset("timm:vit_large_patch14_reg4_dinov2.lvd142m", f"DINOv2 ViT-L/14 with registers; {_ALONE}", "Apache-2.0"),
    "dinov3-small": Preset("timm:vit_small_patch16_dinov3.lvd1689m", f"DINOv3 ViT-S/16; {_ALONE}", "DINOv3 licence"),
    "dinov3-base": Preset("timm:vit_base_patch16_dinov3.lvd1689m", f"DINOv3 ViT-B/16; {_ALONE}", "DINOv3 licence"),
    "tipsv2-base": Preset("timm:vit_base_patch14_reg1_tipsv2.webli", f"TIPSv2 ViT-B/14; {_ALONE}", "Apache-2.0"),
    "tipsv2-large": Preset("timm:vit_large_patch14_reg1_tipsv2.webli", f"TIPSv2 ViT-L/14; {_ALONE}", "Apache-2.0"),
    "pe-spatial-small": Preset("timm:vit_pe_spatial_small_patch16_512.fb", f"PE-Spatial ViT-S/16; {_ALONE}", "Apache-2.0"),
    "pe-spatial-base": Preset("timm:vit_pe_spatial_base_patch16_512.fb", f"PE-Spatial ViT-B/16; {_ALONE}", "Apache-2.0"),
    "radio-base": Preset("timm:vit_base_patch16_radio_v3.c_radio", f"C-RADIOv3 ViT-B/16; {_ALONE}", "NVIDIA Open Model License"),
    "wide-resnet50": Preset("timm:wide_resnet50_2.tv_in1k", f"Wide ResNet-50-2, maps at strides 8 and 16; {_ALONE}", "BSD-3-Clause"),
}
