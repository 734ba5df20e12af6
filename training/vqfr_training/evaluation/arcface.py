"""ArcFace's ResNet-18 on grey faces of 128 px: what the paper's column Deg. is measured with.

The network of ronghuaiyang/arcface-pytorch (`resnet_face18` without squeeze and excitation), under
the parameter names of the published files. facexlib has other recognisers only.
"""

import torch
from torch import Tensor, nn


class ResnetFace18(nn.Module):
    """Embeddings of faces.

    `forward` maps (N, 1, 128, 128) in [-1, 1] to (N, 512), not normalised.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.prelu = nn.PReLU()
        self.maxpool = nn.MaxPool2d(2, 2)
        self.layer1 = nn.Sequential(_Block(64, 64, 1), _Block(64, 64, 1))
        self.layer2 = nn.Sequential(_Block(64, 128, 2), _Block(128, 128, 1))
        self.layer3 = nn.Sequential(_Block(128, 256, 2), _Block(256, 256, 1))
        self.layer4 = nn.Sequential(_Block(256, 512, 2), _Block(512, 512, 1))
        self.bn4 = nn.BatchNorm2d(512)
        self.fc5 = nn.Linear(512 * 8 * 8, 512)
        self.bn5 = nn.BatchNorm1d(512)

    def forward(self, faces: Tensor) -> Tensor:
        """See the class."""
        x = self.maxpool(self.prelu(self.bn1(self.conv1(faces))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        embedding: Tensor = self.bn5(self.fc5(torch.flatten(self.bn4(x), 1)))
        return embedding


class _Block(nn.Module):
    def __init__(self, incoming: int, outgoing: int, stride: int) -> None:
        super().__init__()
        self.bn0 = nn.BatchNorm2d(incoming)
        self.conv1 = nn.Conv2d(incoming, incoming, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(incoming)
        self.prelu = nn.PReLU()
        self.conv2 = nn.Conv2d(incoming, outgoing, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outgoing)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or incoming != outgoing:
            conv = nn.Conv2d(incoming, outgoing, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(outgoing))

    def forward(self, x: Tensor) -> Tensor:
        inner = self.prelu(self.bn1(self.conv1(self.bn0(x))))
        result: Tensor = self.prelu(self.bn2(self.conv2(inner)) + self.downsample(x))
        return result
