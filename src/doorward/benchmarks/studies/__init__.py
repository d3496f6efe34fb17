"""The studies that come with Doorward, one per file; importing this files them in `STUDIES`.

A new study is a new file here: a grid per tier, and a function of one `Cell`.
"""

from doorward.benchmarks.studies import (
    attacks,
    class_distance,
    distance_speed,
    gateway_load,
    honeypot_extraction,
    mesa_triggers,
    removal_board,
    removal_retuning,
    scan_detection,
    scan_speed,
    trading_ablation,
    trading_controls,
    trading_lock,
    trading_security,
    training_accuracy,
    training_speed,
    watermark_attacks,
    watermark_basic,
    watermark_false_claims,
    watermark_functionality,
    watermark_piracy,
    watermark_tracing,
)

__all__ = [
    "attacks",
    "class_distance",
    "distance_speed",
    "gateway_load",
    "honeypot_extraction",
    "mesa_triggers",
    "removal_board",
    "removal_retuning",
    "scan_detection",
    "scan_speed",
    "trading_ablation",
    "trading_controls",
    "trading_lock",
    "trading_security",
    "training_accuracy",
    "training_speed",
    "watermark_attacks",
    "watermark_basic",
    "watermark_false_claims",
    "watermark_functionality",
    "watermark_piracy",
    "watermark_tracing",
]
