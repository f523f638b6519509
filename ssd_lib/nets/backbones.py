"""Backbones: from an image to the feature maps that detection uses. Built on torchvision's, so that its weights serve."""

from torch import Tensor, nn
from torchvision.models import mobilenet_v2


class MobileNetV2(nn.Module):
    """MobileNetV2 that gives two maps: stride 16 (the expansion of block 14, before it strides) and stride 32."""

    def __init__(self, width_mult: float) -> None:
        super().__init__()
        self.features = mobilenet_v2(width_mult=width_mult).features

    @property
    def out_channels(self) -> tuple[int, int]:
        """Channels of the two maps."""
        return self.features[14].conv[0][0].out_channels, self.features[18][0].out_channels

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised pixels -> two maps."""
        x = self.features[:14](images)
        fine = self.features[14].conv[0](x)
        coarse = self.features[15:](self.features[14].conv[1:](fine))
        return [fine, coarse]
