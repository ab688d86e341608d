"""Crossway Diffusion: the reconstruction teaches the encoder, and what acts is a Diffusion Policy."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_policies import make, make_batch

from diffbot.data.contract import Action, Contract, Field
from diffbot.data.transforms import TransformGroup
from diffbot.diffusion.losses import diffusion_loss
from diffbot.errors import ConfigError
from diffbot.methods.bundle import load_bundle, save_bundle
from diffbot.methods.policies.crossway_diffusion import CrosswayDiffusion
from diffbot.methods.registry import build_config
from diffbot.networks import Condition, build
from diffbot.networks.decoders import DecoderConfig, StateDecoder, position_embedding

SMALL = {
    "horizon": 8,
    "action_horizon": 4,
    "network_options": {"down_dims": [16, 32], "time_dim": 16},
    "encoder": {"resnet": {"base": 8, "channels_per_group": 4, "keypoints": 4, "features": 8}},
    "decoder": {"channels": [8, 8], "position_dim": 8, "image_size": 16},
}


@pytest.fixture
def seeing() -> Contract:
    """As a method sees it after the transforms: channels-first images."""
    return Contract(
        {"camera": Field((3, 48, 48), "float32", kind="image"), "position": Field((2,))},
        Action((2,)),
        rate=10.0,
    )


def policy(contract: Contract, seed: int = 0, **settings: object) -> CrosswayDiffusion:
    settings = SMALL | {"keys": ["camera", "position"]} | settings
    built = make("crossway_diffusion", contract, seed, **settings)
    assert isinstance(built, CrosswayDiffusion)
    return built


def test_the_loss_is_denoising_plus_weighted_reconstruction(seeing: Contract) -> None:
    """Against the terms written out by hand, with the noise of the same generator."""
    ours = policy(seeing, reconstruction=0.3)
    ours.begin_training(seed=0)
    ours.model.eval()
    batch = make_batch(ours, size=3)
    total, metrics = ours.loss(ours.model, batch, torch.Generator().manual_seed(4))
    condition = Condition(global_=ours.encoded(ours.model["encoder"], batch.observations))
    generator = torch.Generator().manual_seed(4)
    network, decoder = ours.model["network"], ours.model["decoder"]
    feature = {}

    def spy(x: torch.Tensor, t: torch.Tensor, given: Condition) -> torch.Tensor:
        output, feature["middle"] = network.with_feature(x, t, given)
        return output

    denoising = diffusion_loss(
        spy, ours.schedule, ours.prediction, batch.actions, condition, generator=generator
    )
    drawn = decoder(feature["middle"][:, 0])
    image = torch.nn.functional.avg_pool2d(batch.observations["camera"].flatten(0, 1), 3)
    error = (drawn["camera"].flatten(0, 1) - image).square().mean()
    error = error + (drawn["position"] - batch.observations["position"]).square().mean()
    torch.testing.assert_close(total, denoising + 0.3 * error)
    torch.testing.assert_close(metrics["reconstruction"], error)
    torch.testing.assert_close(metrics["denoising"], denoising)


def test_the_reconstruction_alone_reaches_encoder_and_network(seeing: Contract) -> None:
    ours = policy(seeing)
    ours.begin_training(seed=0)
    assert ours.learner is not None
    model = ours.learner.online
    batch = make_batch(ours, size=2)
    with_weight = dict(model.named_parameters())
    total, metrics = ours.loss(model, batch, torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    total.backward()
    full = {name: p.grad.clone() for name, p in with_weight.items() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    ours.config = build_config("crossway_diffusion", SMALL | {"reconstruction": 0.0})
    ours.loss(model, batch, torch.Generator().manual_seed(0))[0].backward()  # type: ignore[arg-type]
    changed = {
        name.split(".")[0]
        for name, p in with_weight.items()
        if p.grad is not None and not torch.allclose(p.grad, full[name], rtol=1e-4, atol=1e-9)
    }
    assert {"encoder", "network", "decoder"} <= changed
    assert float(metrics["reconstruction"]) > 0


def test_what_acts_is_a_diffusion_policy(seeing: Contract) -> None:
    """Its weights load into Diffusion Policy of the same settings, and both act alike: no decoder in the acting path."""
    ours = policy(seeing)
    ours.begin_training(seed=0)
    for seed in range(2):
        ours.update(make_batch(ours, seed=seed))
    settings = {key: value for key, value in SMALL.items() if key != "decoder"}
    plain = make("diffusion_policy", seeing, 5, network="unet", keys=["camera", "position"], **settings)
    plain.load_policy_state(ours.policy_state())
    fresh = policy(seeing, seed=9)
    fresh.load_policy_state(ours.policy_state())
    assert "decoder" not in fresh.model
    observation = make_batch(ours, size=2, seed=7).observations
    chunks = [p.act(observation, generator=torch.Generator().manual_seed(1)) for p in (ours, plain, fresh)]
    assert torch.equal(chunks[0], chunks[1]) and torch.equal(chunks[0], chunks[2])


def test_training_continues_exactly_with_the_decoder(seeing: Contract) -> None:
    whole, half, other = (policy(seeing) for _ in range(3))
    for each, seed in ((whole, 1), (half, 1), (other, 8)):
        each.begin_training(seed=seed)
    for i in range(4):
        losses = whole.update(make_batch(whole, 2, seed=i))
        if i < 2:
            half.update(make_batch(half, 2, seed=i))
    other.load_training_state(half.training_state())
    for i in range(2, 4):
        again = other.update(make_batch(other, 2, seed=i))
    assert float(losses["loss"]) == float(again["loss"])


def test_states_alone_are_reconstructed_too(contract: Contract) -> None:
    """Overfitting one batch drives the reconstruction error down with the denoising error."""
    ours = make("crossway_diffusion", contract, **{k: v for k, v in SMALL.items() if k != "encoder"})
    ours.begin_training(seed=0)
    batch = make_batch(ours)
    first = ours.update(batch)
    for _ in range(60):
        last = ours.update(batch)
    assert float(last["reconstruction"]) < 0.5 * float(first["reconstruction"])
    assert float(last["denoising"]) < float(first["denoising"])


def test_the_feature_comes_with_the_same_prediction() -> None:
    net = build({"name": "unet", "down_dims": (8, 16), "time_dim": 16}, (8, 3), 4)
    conv = build({"name": "unet", "down_dims": (8, 16), "time_dim": 16, "layout": "conv1d"}, (8, 3), 4)
    conv.load_state_dict(net.state_dict())
    x, t = torch.randn(2, 8, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0.1, 0.7])
    condition = Condition(torch.randn(2, 4, generator=torch.Generator().manual_seed(1)))
    output, feature = net.with_feature(x, t, condition)  # type: ignore[operator]
    assert torch.equal(output, net(x, t, condition)) and feature.shape == (2, 4, 16)
    torch.testing.assert_close(conv.with_feature(x, t, condition)[1], feature)  # type: ignore[operator]


def test_the_decoder_lays_out_what_it_is_given() -> None:
    shapes = {"camera": (3, 40, 40), "joints": (5,)}
    decoder = StateDecoder(DecoderConfig(channels=(8, 8), position_dim=8, image_size=20), 16, shapes, 2)
    drawn = decoder(torch.randn(3, 16, generator=torch.Generator().manual_seed(0)))
    assert drawn["camera"].shape == (3, 2, 3, 20, 20) and drawn["joints"].shape == (3, 2, 5)
    image = torch.rand(3, 2, 3, 40, 40, generator=torch.Generator().manual_seed(1))
    target = decoder.target("camera", image)
    torch.testing.assert_close(target[1, 0, 2, 4, 7], image[1, 0, 2, 8:10, 14:16].mean())
    embedding = position_embedding(5, 8)
    assert embedding.shape == (8, 5, 5)
    torch.testing.assert_close(embedding[1, 1, :], torch.full((5,), float(torch.sin(torch.tensor(-torch.pi)))), atol=1e-5, rtol=0)  # fmt: skip


def test_sizes_that_do_not_fit_are_refused(contract: Contract) -> None:
    with pytest.raises(ConfigError, match=r"18 channels.*multiple of 8"):
        StateDecoder(DecoderConfig(), 18, {"a": (3,)}, 2)
    with pytest.raises(ConfigError, match="multiple of 4"):
        StateDecoder(DecoderConfig(image_size=30), 16, {"a": (3, 60, 60)}, 2)
    with pytest.raises(ConfigError, match=r"method\.network=unet"):
        make("crossway_diffusion", contract, network="mlp")


def test_its_bundle_holds_what_acts(contract: Contract, tmp_path: Path) -> None:
    settings = {k: v for k, v in SMALL.items() if k != "encoder"}
    ours = make("crossway_diffusion", contract, **settings)
    ours.begin_training(seed=0)
    transforms = TransformGroup.default(contract, "identity")
    path = save_bundle(
        tmp_path / "policy", name="crossway_diffusion", method=ours, transforms=transforms, contract=contract
    )
    loaded = load_bundle(path).method
    assert all(torch.equal(value, ours.policy_state()[name]) for name, value in loaded.policy_state().items())
