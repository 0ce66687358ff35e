"""torch modules with the checkpoint's tensor names, written to be traced: fused operators instead of formulas."""
