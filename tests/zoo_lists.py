"""Which networks test_zoo.py runs, on images of how many pixels: few, but what the network takes."""

from __future__ import annotations

from typing import Any

__all__ = [
    "CLASSIFIERS",
    "DETECTORS",
    "FAMILIES",
    "LARGE",
    "REFUSED",
    "SEGMENTATION",
    "SHIFTS",
    "THROUGH_NEWER_ONNX",
    "THROUGH_ONNX",
]

_AT_64 = """
convnext_base convnext_large convnext_small convnext_tiny
densenet121 densenet161 densenet169 densenet201
efficientnet_b0 efficientnet_b1 efficientnet_b2 efficientnet_b3 efficientnet_b4 efficientnet_b5 efficientnet_b6
efficientnet_b7 efficientnet_v2_l efficientnet_v2_m efficientnet_v2_s
googlenet
mnasnet0_5 mnasnet0_75 mnasnet1_0 mnasnet1_3
mobilenet_v2 mobilenet_v3_large mobilenet_v3_small
regnet_x_16gf regnet_x_1_6gf regnet_x_32gf regnet_x_3_2gf regnet_x_400mf regnet_x_800mf regnet_x_8gf
regnet_y_128gf regnet_y_16gf regnet_y_1_6gf regnet_y_32gf regnet_y_3_2gf regnet_y_400mf regnet_y_800mf regnet_y_8gf
resnet101 resnet152 resnet18 resnet34 resnet50
resnext101_32x8d resnext101_64x4d resnext50_32x4d
shufflenet_v2_x0_5 shufflenet_v2_x1_0 shufflenet_v2_x1_5 shufflenet_v2_x2_0
squeezenet1_0 squeezenet1_1
swin_b swin_s swin_t swin_v2_b swin_v2_s swin_v2_t
vgg11 vgg13 vgg13_bn vgg16 vgg16_bn vgg19 vgg19_bn
wide_resnet101_2 wide_resnet50_2
"""

CLASSIFIERS: dict[str, int] = {
    **dict.fromkeys(_AT_64.split(), 64),
    **dict.fromkeys(("alexnet", "vgg11_bn"), 224),  # PyTorch's older exporter pools evenly only
    "inception_v3": 75,
    "maxvit_t": 224,
    **dict.fromkeys(("vit_b_16", "vit_b_32", "vit_l_16", "vit_l_32"), 32),
    "vit_h_14": 28,
}

_THROUGH_ONNX = """
alexnet convnext_tiny densenet121 efficientnet_b0 efficientnet_v2_s googlenet inception_v3 mnasnet0_5 mobilenet_v2
mobilenet_v3_small regnet_x_400mf regnet_y_400mf resnet18 resnext50_32x4d shufflenet_v2_x0_5 squeezenet1_0 swin_t
swin_v2_t vgg11_bn vit_b_32 wide_resnet50_2
"""
THROUGH_ONNX = _THROUGH_ONNX.split()
THROUGH_NEWER_ONNX = ["mobilenet_v3_small", "resnet18", "swin_t", "swin_v2_t", "vit_b_32"]

# They need 10 GB of memory, and one waits for the other.
LARGE = ("regnet_y_128gf", "vit_h_14")

SEGMENTATION = dict.fromkeys(
    (
        "deeplabv3_mobilenet_v3_large",
        "deeplabv3_resnet101",
        "deeplabv3_resnet50",
        "fcn_resnet101",
        "fcn_resnet50",
        "lraspp_mobilenet_v3_large",
    ),
    64,
)

DETECTORS = {
    **dict.fromkeys(
        (
            "fasterrcnn_mobilenet_v3_large_320_fpn",
            "fasterrcnn_mobilenet_v3_large_fpn",
            "fasterrcnn_resnet50_fpn",
            "fasterrcnn_resnet50_fpn_v2",
            "fcos_resnet50_fpn",
            "keypointrcnn_resnet50_fpn",
            "maskrcnn_resnet50_fpn",
            "maskrcnn_resnet50_fpn_v2",
            "retinanet_resnet50_fpn",
            "retinanet_resnet50_fpn_v2",
        ),
        64,
    ),
    "ssd300_vgg16": 300,
    "ssdlite320_mobilenet_v3_large": 320,
}

# timm's module -> its smallest member, pixels, and what it is made with beside its name. Not those made for tests, nor
# halonet_h1, whose export takes minutes; of families without a small member one with fewer blocks.
FAMILIES: dict[str, tuple[str, int, dict[str, Any]]] = {
    "beit": ("beit_base_patch16_224", 64, {"img_size": 64}),
    "byoanet": ("eca_botnext26ts_256", 64, {"img_size": 64}),
    "byobnet": ("mobileone_s1", 64, {}),
    "cait": ("cait_xxs24_224", 64, {"img_size": 64}),
    "coat": ("coat_tiny", 64, {"img_size": 64}),
    "convit": ("convit_tiny", 64, {"img_size": 64}),
    "convmixer": ("convmixer_768_32", 64, {}),
    "convnext": ("convnext_zepto_rms", 64, {}),
    "cpubone": ("cpubone_nano", 64, {}),
    "crossvit": ("crossvit_tiny_240", 240, {}),
    "csatv2": ("csatv2", 64, {}),
    "cspnet": ("cs3darknet_focus_s", 64, {}),
    "cspnext": ("cspnext_tiny", 64, {}),
    "davit": ("davit_tiny", 64, {}),
    "deepseek_vit": ("deepseek_vit_412m", 224, {"depth": 2}),
    "deit": ("deit_tiny_patch16_224", 64, {"img_size": 64}),
    "densenet": ("densenet121", 64, {}),
    "dla": ("dla46x_c", 64, {}),
    "dpn": ("dpn48b", 64, {}),
    "edgenext": ("edgenext_xx_small", 64, {}),
    "efficientformer": ("efficientformer_l1", 224, {}),
    "efficientformer_v2": ("efficientformerv2_s0", 64, {"img_size": 64}),
    "efficientnet": ("mobilenetv2_035", 64, {}),
    "efficientvim": ("efficientvim_m1", 64, {}),
    "efficientvit_mit": ("efficientvit_b0", 64, {}),
    "efficientvit_msra": ("efficientvit_m0", 64, {"img_size": 64}),
    "eva": ("vit_tiny_patch16_dinov3_qkvb", 64, {"img_size": 64}),
    "fasternet": ("fasternet_t0", 64, {}),
    "fastvit": ("fastvit_t8", 64, {}),
    "focalnet": ("focalnet_tiny_srf", 64, {}),
    "gcvit": ("gcvit_xxtiny", 64, {"img_size": 64}),
    "gemma4_vit": ("gemma4_vit_167m", 64, {"depth": 2}),
    "ghostnet": ("ghostnet_050", 64, {}),
    "hardcorenas": ("hardcorenas_b", 64, {}),
    "hgnet": ("hgnetv2_b0", 64, {}),
    "hiera": ("hiera_tiny_224", 64, {"img_size": 64}),
    "hieradet_sam2": ("sam2_hiera_tiny", 64, {}),
    "hrnet": ("hrnet_w18_small", 64, {}),
    "iformer": ("iformer_t", 64, {}),
    "inception_next": ("inception_next_atto", 64, {}),
    "inception_resnet_v2": ("inception_resnet_v2", 96, {}),
    "inception_v3": ("inception_v3", 96, {}),
    "inception_v4": ("inception_v4", 160, {}),
    "lcnetv2": ("lcnetv2_small", 64, {}),
    "levit": ("levit_128s", 64, {"img_size": 64}),
    "lowformer": ("lowformer_b0", 64, {}),
    "mambaout": ("mambaout_femto", 64, {}),
    "maxxvit": ("maxvit_pico_rw_256", 64, {"img_size": 64}),
    "metaformer": ("poolformerv2_s12", 64, {}),
    "mlp_mixer": ("gmlp_ti16_224", 64, {"img_size": 64}),
    "mobilenetv3": ("mobilenetv3_small_050", 64, {}),
    "mobilenetv5": ("mobilenetv5_base", 64, {}),
    "mobilevit": ("mobilevit_xxs", 64, {}),
    "mvitv2": ("mvitv2_tiny", 64, {"img_size": 64}),
    "naflexvit": ("naflexvit_base_patch16_parfac_gap", 64, {}),
    "nasnet": ("nasnetalarge", 64, {}),
    "nest": ("nest_tiny", 64, {"img_size": 64}),
    "nextvit": ("nextvit_small", 64, {}),
    "nfnet": ("nf_regnet_b0", 64, {}),
    "pit": ("pit_ti_224", 64, {"img_size": 64}),
    "pnasnet": ("pnasnet5large", 64, {}),
    "pvt_v2": ("pvt_v2_b0", 64, {}),
    "qwen3_vit": ("qwen3_vit_88m", 64, {}),
    "rdnet": ("rdnet_tiny", 64, {}),
    "regnet": ("regnetx_002", 64, {}),
    "repghost": ("repghostnet_050", 64, {}),
    "repvit": ("repvit_m1", 64, {}),
    "res2net": ("res2next50", 64, {}),
    "resnest": ("resnest14d", 64, {}),
    "resnet": ("resnet10t", 64, {}),
    "resnetv2": ("resnetv2_18", 64, {}),
    "rexnet": ("rexnet_100", 64, {}),
    "selecsls": ("selecsls42", 64, {}),
    "senet": ("legacy_seresnet18", 64, {}),
    "sequencer": ("sequencer2d_s", 64, {"img_size": 64}),
    "shvit": ("shvit_s1", 64, {}),
    "sknet": ("skresnet18", 64, {}),
    "starnet": ("starnet_s050", 64, {}),
    "swiftformer": ("swiftformer_xs", 64, {"img_size": 64}),
    "swin_transformer": ("swin_tiny_patch4_window7_224", 64, {"img_size": 64}),
    "swin_transformer_v2": ("swinv2_tiny_window16_256", 64, {"img_size": 64}),
    "swin_transformer_v2_cr": ("swinv2_cr_tiny_224", 64, {"img_size": 64}),
    "tiny_vit": ("tiny_vit_5m_224", 64, {}),
    "tnt": ("tnt_s_legacy_patch16_224", 64, {"img_size": 64}),
    "tresnet": ("tresnet_m", 64, {}),
    "twins": ("twins_svt_small", 64, {"img_size": 64}),
    "vgg": ("vgg11", 64, {}),
    "visformer": ("visformer_tiny", 64, {"img_size": 64}),
    "vision_transformer": ("vit_tiny_patch16_224", 64, {"img_size": 64}),
    "vision_transformer_hybrid": ("vit_tiny_r_s16_p8_224", 64, {"img_size": 64}),
    "vision_transformer_relpos": ("vit_srelpos_small_patch16_224", 64, {"img_size": 64}),
    "vision_transformer_sam": ("samvit_base_patch16_224", 64, {"img_size": 64}),
    "vitamin": ("vitamin_small_224", 64, {"img_size": 64}),
    "volo": ("volo_d1_224", 64, {"img_size": 64}),
    "vovnet": ("ese_vovnet19b_slim_dw", 64, {}),
    "xception": ("legacy_xception", 64, {}),
    "xception_aligned": ("xception41p", 64, {}),
    "xcit": ("xcit_nano_12_p8_224", 64, {"img_size": 64}),
}

# Batch norms behind the activations: what they add would pile up on the shortcuts.
SHIFTS = {"convmixer_768_32": -0.1}

# Of these, those which are refused -> what the error says.
REFUSED: dict[str, str] = {
    "csatv2": r"aten\.matmul\.default mixes the images",
}
