"""What makes data, and what checks them: ImageNet-C, DAmageNet, transfer sets, `nsbench data check`."""
