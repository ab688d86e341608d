"""Encoders of observations, images and instructions."""

from __future__ import annotations

import pytest
import torch

from diffbot.errors import ConfigError
from diffbot.networks import seeded
from diffbot.networks.encoders import (
    HashTokenizer,
    ObservationConfig,
    ObservationEncoder,
    ResNet18,
    ResNetConfig,
    ResNetEncoder,
    SpatialSoftmax,
    StateConfig,
    StateEncoder,
    TaskEmbedding,
    TextConfig,
    TextEncoder,
    ViTConfig,
    VocabularyTokenizer,
)
from diffbot.networks.seeding import SeededCrop, SeededDropout

SMALL = {
    "resnet": ResNetConfig(base=8, channels_per_group=4, keypoints=4, features=6),
    "vit": ViTConfig(4, 16, 1, 2, 6),
}
SHAPES = {"eef_pos": (3,), "wrist_image": (64, 64, 3), "agentview_image": (64, 64, 3)}


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def observation(batch: int = 2) -> dict[str, torch.Tensor]:
    return {key: rand(batch, 2, *shape, seed=i) for i, (key, shape) in enumerate(SHAPES.items())}


def test_resnet18_has_the_published_size():
    """11.69 M parameters with the 1000-class head of 513000 (He et al. 2016; the common implementations)."""
    trunk = ResNet18(ResNetConfig())
    assert sum(parameter.numel() for parameter in trunk.parameters()) == 11_689_512 - 513_000
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in trunk.modules())
    assert trunk(torch.zeros(1, 3, 64, 96)).shape == (1, 512, 2, 3)


@pytest.mark.parametrize("row,column", [(0, 0), (4, 6), (2, 3), (4, 0)])
def test_spatial_softmax_finds_a_peak(row, column):
    layer = SpatialSoftmax(1, 1)
    layer.maps.weight.data.fill_(1.0)
    image = torch.zeros(1, 1, 5, 7)
    image[0, 0, row, column] = 100.0
    x, y = layer(image)[0, 0].tolist()
    assert x == pytest.approx(column / 3 - 1, abs=1e-5) and y == pytest.approx(row / 2 - 1, abs=1e-5)


def test_images_too_small_for_keypoints_are_refused():
    with pytest.raises(ConfigError, match=r"feature map of 1x1"):
        ResNetEncoder(SMALL["resnet"])(torch.zeros(1, 3, 32, 32))


def test_spatial_softmax_of_a_flat_map_is_the_centre():
    assert torch.allclose(SpatialSoftmax(2, 3)(torch.zeros(1, 2, 4, 6)), torch.zeros(1, 3, 2), atol=1e-6)


@pytest.mark.parametrize("kind", ["resnet18", "vit"])
@pytest.mark.parametrize("share", [False, True])
def test_observation_encoder(kind, share):
    with seeded(0):
        encoder = ObservationEncoder(
            ObservationConfig(image_encoder=kind, share=share, crop=0.75, **SMALL), SHAPES, 2
        )
    out = encoder(observation())
    assert out.shape == (2, encoder.condition_dim) == (2, 2 * (3 + 6 + 6))
    assert len(encoder.images) == (1 if share else 2)
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in encoder.parameters())
    encoder.eval()
    out = encoder(observation())
    for key in SHAPES:
        changed = observation()
        changed[key] = changed[key] + rand(*changed[key].shape, seed=9)
        assert not torch.allclose(encoder(changed), out), key


def test_rows_and_history_are_independent():
    encoder = ObservationEncoder(ObservationConfig(**SMALL), SHAPES, 2).eval()
    whole = encoder(observation())
    first = encoder({key: value[:1] for key, value in observation().items()})
    torch.testing.assert_close(whole[:1], first, rtol=1e-4, atol=1e-5)


def test_observation_errors():
    with pytest.raises(ConfigError, match="Did you mean 'resnet18'"):
        ObservationEncoder(ObservationConfig(image_encoder="resnet"), SHAPES, 2)
    with pytest.raises(ConfigError, match="need one image shape"):
        ObservationEncoder(ObservationConfig(share=True), {"a": (8, 8, 3), "b": (8, 8, 1)}, 1)
    encoder = ObservationEncoder(ObservationConfig(**SMALL), SHAPES, 2)
    with pytest.raises(ConfigError, match="'eef_pos' is missing"):
        encoder({key: value for key, value in observation().items() if key != "eef_pos"})
    with pytest.raises(ConfigError, match="'eef_pos' must be"):
        encoder({**observation(), "eef_pos": torch.zeros(2, 1, 3)})
    with pytest.raises(ConfigError, match="not whole patches of 5"):
        ObservationEncoder(ObservationConfig(image_encoder="vit", vit=ViTConfig(patch=5)), SHAPES, 2)


def test_crops_are_windows_of_the_image_and_central_when_acting():
    image = torch.arange(100.0).view(1, 1, 10, 10).repeat(50, 1, 1, 1)
    crop = SeededCrop(0.8).train()
    windows = crop(image)
    corners = windows[:, 0, 0, 0].long()
    expected = [image[0, 0, c // 10 : c // 10 + 8, c % 10 : c % 10 + 8] for c in corners.tolist()]
    assert torch.equal(windows[:, 0], torch.stack(expected))
    assert set(corners.tolist()) == {10 * r + c for r in range(3) for c in range(3)}
    assert torch.equal(crop.eval()(image), image[:, :, 1:9, 1:9])
    with pytest.raises(ConfigError, match="share in"):
        SeededCrop(1.5)


def test_dropout_resumes_from_its_state():
    with seeded(0):
        dropout = SeededDropout(0.5)
    x = torch.ones(2000)
    dropout(x)
    state = {key: value.clone() for key, value in dropout.state_dict().items()}
    second = dropout(x)
    restored = SeededDropout(0.5)
    restored.load_state_dict(state)
    assert torch.equal(restored(x), second)
    assert not torch.equal(dropout(x), second)
    assert set(second.tolist()) == {0.0, 2.0}
    assert abs(second.mean().item() - 1.0) < 4 * 2000**-0.5
    assert torch.equal(dropout.eval()(x), x)


def test_state_encoder_and_task_embedding():
    assert StateEncoder(StateConfig(features=7), 5)(torch.zeros(4, 2, 5)).shape == (4, 2, 7)
    table = TaskEmbedding(3, 4)
    assert torch.equal(table(torch.tensor([2, 0])), table.table.weight[[2, 0]])


def test_vocabulary_tokens():
    tokenizer = VocabularyTokenizer(["push", "the", "red", "block"], length=4)
    assert tokenizer.size == 5
    assert tokenizer(["Push the red block!", "push"]).tolist() == [[2, 4, 3, 1], [2, 0, 0, 0]]
    with pytest.raises(ConfigError, match="Did you mean 'block'"):
        tokenizer(["push blok"])
    with pytest.raises(ConfigError, match="5 words but the tokenizer keeps 4"):
        tokenizer(["push push push push push"])


def test_hashed_tokens_are_the_same_everywhere():
    tokenizer = HashTokenizer(4096, length=3)
    assert tokenizer(["open the drawer"]).tolist() == [[2800, 2506, 1103]]  # b2sum -l 64, modulo 4095, plus 1
    assert tokenizer(["Open, the DRAWER"]).tolist() == tokenizer(["open the drawer"]).tolist()


def test_text_encoder_ignores_padding_and_reads_order():
    tokenizer = VocabularyTokenizer(["a", "b", "c"], length=5)
    with seeded(0):
        encoder = TextEncoder(TextConfig(width=16, layers=1, heads=2), tokenizer.size, 5).double()
    short, long = (encoder(ids) for ids in (tokenizer(["a b"])[:, :2], tokenizer(["a b"])))
    torch.testing.assert_close(short[2], long[2], rtol=0, atol=1e-12)
    assert long[1].tolist() == [[True, True, False, False, False]]
    assert not torch.allclose(long[2], encoder(tokenizer(["b a"]))[2])
    with pytest.raises(ConfigError, match="instruction is empty"):
        encoder(tokenizer(["..."]))


def test_frequencies_of_states_in_closed_form():
    """Each number also as sin and cos of pi x and 2 pi x; 0 frequencies leave states as they are."""
    x = torch.tensor([[[0.5, -0.25]]])
    encoder = ObservationEncoder(ObservationConfig(frequencies=2), {"state": (2,)}, 1)
    angles = torch.pi * torch.tensor([0.5, 1.0, -0.25, -0.5])
    expected = torch.cat([x.flatten(), angles.sin(), angles.cos()])
    assert encoder.features == encoder.condition_dim == 10
    torch.testing.assert_close(encoder({"state": x})[0], expected)
    plain = ObservationEncoder(ObservationConfig(), {"state": (2,)}, 1)
    assert torch.equal(plain({"state": x})[0], x.flatten())
    with pytest.raises(ConfigError, match="frequencies"):
        ObservationEncoder(ObservationConfig(frequencies=-1), {"state": (2,)}, 1)
