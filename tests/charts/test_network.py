"""The order of layers and their parts."""

from quantface_core.charts.network import along_network, chart_section
from quantface_core.nn.swap import quantizable
from quantface_core.restorer import OneStepRestorer


def test_layers_come_in_the_order_the_data_passes(tiny: OneStepRestorer) -> None:
    names = along_network(reversed(list(quantizable(tiny))))
    assert sorted(names) == sorted(quantizable(tiny))
    for earlier, later in (
        ("embedder.encoder.conv_in", "vae.encoder.conv_in"),
        ("vae.encoder.conv_out", "vae.quant_conv"),
        ("vae.quant_conv", "unet.conv_in"),
        ("unet.conv_in", "unet.time_embedding.linear_1"),
        ("unet.down_blocks.0.resnets.0.conv1", "unet.mid_block.resnets.0.conv1"),
        ("unet.mid_block.resnets.0.conv1", "unet.up_blocks.0.resnets.0.conv1"),
        ("unet.conv_out", "vae.post_quant_conv"),
        ("vae.post_quant_conv", "vae.decoder.conv_in"),
        ("vae.decoder.mid_block.resnets.0.conv1", "vae.decoder.up_blocks.0.resnets.0.conv1"),
    ):
        assert names.index(earlier) < names.index(later)
    assert [chart_section(n) for n in names] == sorted(
        (chart_section(n) for n in names), key=["embedder", "vae.encoder", "unet", "vae.decoder"].index
    )
