"""Every transform is a pair; statistics are complete or an error."""

import numpy as np
import pytest
import torch
from data_cases import CONTRACT, IMAGE_CONTRACT, make_store
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation as Oracle

from diffbot.data.contract import Action, Contract, Field
from diffbot.data.transforms import TRANSFORMS, ConstantDimensionWarning, TransformGroup, build
from diffbot.data.transforms import rotation as R
from diffbot.data.window_spec import WindowSpec
from diffbot.data.windows import Windows
from diffbot.errors import ConfigError, DataError

NORMALIZERS = ["min_max", "mean_std", "quantile"]


def data(seed=0, n=200, d=4):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator) * torch.tensor([0.1, 1.0, 30.0, 5.0]) + torch.tensor(
        [0.0, 9.0, -40.0, 1.0]
    )


@pytest.mark.parametrize("name", [*NORMALIZERS, "identity"])
@given(seed=st.integers(0, 100))
@settings(max_examples=10, deadline=None)
def test_normalisation_round_trips(name, seed):
    x = data(seed)
    transform = build({"name": name})
    transform.fit(x, "x")
    y = torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(transform.forward(transform.inverse(y)), y, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(transform.inverse(transform.forward(x)), x, rtol=1e-5, atol=1e-4)


def test_normalisers_do_what_their_names_say():
    x = data()
    fitted = {}
    for name in NORMALIZERS:
        fitted[name] = build({"name": name})
        fitted[name].fit(x)
    y = fitted["min_max"].forward(x)
    torch.testing.assert_close(y.amin(0), -torch.ones(4))
    torch.testing.assert_close(y.amax(0), torch.ones(4))
    y = fitted["mean_std"].forward(x)
    torch.testing.assert_close(y.mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    np.testing.assert_allclose(y.numpy().std(0), 1, rtol=1e-5)
    y = fitted["quantile"].forward(x)
    np.testing.assert_allclose(np.quantile(y.numpy(), [0.01, 0.99], axis=0), [[-1] * 4, [1] * 4], atol=1e-4)


@pytest.mark.parametrize("name", NORMALIZERS)
def test_constant_dimensions_are_named_centred_and_still_exactly_invertible(name):
    x = data()
    x[:, 2] = 7.25
    transform = build({"name": name})
    with pytest.warns(ConstantDimensionWarning, match=r"'gripper': dimensions \[2\] are constant"):
        transform.fit(x, "gripper")
    assert (transform.forward(x)[:, 2] == 0).all()
    probe = torch.tensor([[0.0, 9.0, 9.5, 1.0]])
    assert transform.forward(probe)[0, 2] == 2.25 and transform.inverse(transform.forward(probe))[0, 2] == 9.5


@given(st.integers(0, 10_000), st.sampled_from(list(R.SIZES)), st.sampled_from(list(R.SIZES)))
def test_rotations_agree_with_scipy_and_round_trip(seed, source, target):
    truth = Oracle.random(16, random_state=seed)
    forms = {
        "quaternion": truth.as_quat(canonical=True),
        "axis_angle": truth.as_rotvec(),
        "rotation_6d": truth.as_matrix()[..., :2].transpose(0, 2, 1).reshape(-1, 6),
    }
    x = torch.from_numpy(forms[source])
    got = R.from_matrix(R.to_matrix(x, source), target)
    np.testing.assert_allclose(got, forms[target], atol=1e-7)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-4, np.pi - 1e-6, np.pi])
@pytest.mark.parametrize("axis", [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.6, 0.0, -0.8]])
def test_rotations_survive_the_hard_angles(angle, axis):
    vector = torch.tensor(axis, dtype=torch.float64) * angle
    matrix = R.to_matrix(vector, "axis_angle")
    np.testing.assert_allclose(matrix, Oracle.from_rotvec(vector.numpy()).as_matrix(), atol=1e-9)
    back = R.to_matrix(R.from_matrix(matrix, "axis_angle"), "axis_angle")
    np.testing.assert_allclose(back, matrix, atol=1e-7)


def test_a_rotation_inside_a_vector_changes_its_size_and_comes_back():
    transform = build({"name": "rotation", "start": 2})
    q = torch.from_numpy(Oracle.random(5, random_state=0).as_quat(canonical=True)).float()
    x = torch.cat((torch.ones(5, 2), q, torch.zeros(5, 1)), -1)
    y = transform.forward(x)
    assert y.shape == (5, 9) and transform.output_shape((7,)) == (9,)
    torch.testing.assert_close(transform.inverse(y), x, atol=1e-6, rtol=0)
    with pytest.raises(DataError, match="no quaternion at entries"):
        transform.output_shape((5,))


def test_relative_actions_subtract_the_newest_observation():
    transform = build(
        {
            "name": "relative_action",
            "reference": "eef",
            "action_entries": [0, 1],
            "observation_entries": [2, 0],
        }
    )
    actions = torch.arange(12.0).view(1, 4, 3)
    observed = torch.tensor([[[100.0, 0.0, 200.0], [10.0, 0.0, 20.0]]])
    transform.observation_horizon = 2
    got = transform.forward(actions, {"eef": observed})
    torch.testing.assert_close(got, actions - torch.tensor([20.0, 10.0, 0.0]))
    torch.testing.assert_close(transform.inverse(got, {"eef": observed}), actions)
    with pytest.raises(DataError, match="raw observation 'eef'"):
        transform.forward(actions)


def test_relative_statistics_come_from_windows(tmp_path):
    store = make_store(tmp_path / "s.zarr", [20, 30])
    chain = [{"name": "relative_action", "reference": "state", "action_entries": [0, 1], "observation_entries": [0, 1]},
             {"name": "min_max"}]  # fmt: skip
    group = TransformGroup.from_spec({"state": [{"name": "min_max"}], "action": chain})
    with pytest.raises(DataError, match="fit on windows"):
        group.fit(store)
    windows = Windows(store, WindowSpec(horizon=4))
    group.fit(windows)
    batch = windows.gather(np.arange(len(windows)))
    got = group.forward_batch(batch)
    torch.testing.assert_close(got.actions.amin((0, 1)), -torch.ones(2), atol=1e-6, rtol=0)
    torch.testing.assert_close(got.actions.amax((0, 1)), torch.ones(2), atol=1e-6, rtol=0)
    back = group.inverse({"action": got.actions}, context=batch.observations)["action"]
    torch.testing.assert_close(back, batch.actions, atol=1e-5, rtol=0)
    with pytest.raises(DataError, match="raw values of state"):
        group.inverse({"action": got.actions})


def images(seed=0):
    return torch.randint(
        0, 256, (3, 2, 8, 9, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )


def test_image_scale_is_exact_both_ways():
    transform = build({"name": "image_scale"})
    x = images()
    y = transform.forward(x)
    assert y.shape == (3, 2, 3, 8, 9) and y.min() >= -1 and y.max() <= 1
    assert torch.equal(transform.inverse(y), x)
    with pytest.raises(DataError, match="uint8"):
        transform.forward(y)


def test_random_crop_is_one_place_for_all_frames_of_a_sample_and_the_centre_in_evaluation():
    x = build({"name": "image_scale"}).forward(images())
    crop = build({"name": "random_crop", "height": 5, "width": 6})
    got = crop.forward(x, generator=torch.Generator().manual_seed(0))
    places = set()
    for b in range(3):
        found = [
            (i, j)
            for i in range(4)
            for j in range(4)
            if torch.equal(got[b], x[b, :, :, i : i + 5, j : j + 6])
        ]
        assert len(found) == 1
        places.add(found[0])
    assert len(places) > 1
    assert torch.equal(got, crop.forward(x, generator=torch.Generator().manual_seed(0)))
    centre = build({"name": "centre_crop", "height": 5, "width": 6})
    assert torch.equal(crop.forward(x), x[..., 1:6, 1:7]) and torch.equal(centre.forward(x), x[..., 1:6, 1:7])
    with pytest.raises(DataError, match="cannot cut"):
        build({"name": "random_crop", "height": 50, "width": 6}).forward(x)
    with pytest.raises(DataError, match="no inverse"):
        crop.inverse(got)


def test_crops_reach_every_place_equally():
    crop = build({"name": "random_crop", "height": 1, "width": 1})
    x = torch.arange(6.0).view(1, 1, 2, 3).expand(6000, 1, 2, 3)
    got = crop.forward(x, generator=torch.Generator().manual_seed(0)).flatten().long()
    assert ((torch.bincount(got, minlength=6) - 1000).abs() < 150).all()


def test_color_jitter_is_off_without_a_generator_and_bounded_with_one():
    x = build({"name": "image_scale"}).forward(images())
    jitter = build({"name": "color_jitter"})
    assert torch.equal(jitter.forward(x), x)
    got = jitter.forward(x, generator=torch.Generator().manual_seed(0))
    assert not torch.equal(got, x) and got.abs().max() <= 1
    still = build({"name": "color_jitter", "brightness": 0, "contrast": 0, "saturation": 0})
    torch.testing.assert_close(
        still.forward(x, generator=torch.Generator().manual_seed(0)), x, atol=1e-6, rtol=0
    )


# -- groups ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("normalization", [*NORMALIZERS, "identity"])
def test_spec_and_statistics_rebuild_the_same_group(tmp_path, normalization):
    store = make_store(tmp_path / "s.zarr", [20, 30], IMAGE_CONTRACT)
    crop = {"name": "random_crop", "height": 4, "width": 4}
    group = TransformGroup.default(IMAGE_CONTRACT, normalization, image=[crop]).fit(store)
    again = TransformGroup.from_spec(group.spec(), group.statistics())
    again.check(IMAGE_CONTRACT)
    batch = Windows(store, WindowSpec(observation_horizon=2, goal="final")).gather(np.arange(20))
    first, second = group.forward_batch(batch), again.forward_batch(batch)
    for (name, a), (_, b) in zip(first.tensors(), second.tensors(), strict=True):
        assert torch.equal(a, b), name
    assert first.observations["camera"].shape == (20, 2, 3, 4, 4)
    assert first.goals["state"].shape == (20, 3)
    changed = again.transformed_contract(IMAGE_CONTRACT)
    assert changed.observations["camera"].shape == (3, 4, 4)


def test_statistics_of_training_episodes_only(tmp_path):
    store = make_store(tmp_path / "s.zarr", [20, 30])
    group = TransformGroup.default(CONTRACT).fit(store, episodes=[1])
    want = store.episode(1)["state"]
    got = group.inverse({"state": torch.stack((-torch.ones(3), torch.ones(3)))})["state"]
    np.testing.assert_allclose(got, [want.min(0), want.max(0)], rtol=1e-5)


def test_missing_or_mismatched_statistics_are_errors(tmp_path):
    group = TransformGroup.default(CONTRACT)
    with pytest.raises(DataError, match="fit it, or load its statistics"):
        group.forward({"state": torch.zeros(1, 3)})
    group.fit(make_store(tmp_path / "s.zarr", [20]))
    statistics = group.statistics()
    for broken, match in [
        ({k: v for k, v in statistics.items() if k != "action/0/scale"}, "lack action/0/scale"),
        ({**statistics, "other/0/scale": torch.ones(3)}, "belong to no transform"),
        ({**statistics, "state/0/scale": torch.ones(5)}, "differ in shape"),
        ({**statistics, "state/0/scale": torch.tensor([1.0, 0.0, 1.0])}, "positive"),
        ({**statistics, "state/0/offset": torch.tensor([1.0, float("nan"), 1.0])}, "not finite"),
    ]:
        with pytest.raises(DataError, match=match):
            TransformGroup.from_spec(group.spec(), broken)
    with pytest.raises(DataError, match=r"statistics of shape \(3,\) for values"):
        group.forward({"state": torch.zeros(1, 4)})
    wrong = Contract({"state": Field((4,))}, Action((2,)), 20.0)
    with pytest.raises(DataError, match="shape"):
        group.check(wrong)


def test_unknown_keys_and_names_are_errors():
    group = TransformGroup.default(CONTRACT, "identity")
    with pytest.raises(DataError, match="no transform for 'camera'"):
        group.forward({"camera": torch.zeros(1)})
    with pytest.raises(ConfigError, match="Did you mean 'min_max'"):
        build({"name": "minmax"})
    with pytest.raises(DataError, match="does not take"):
        build({"name": "min_max", "colour": 1})
    assert set(NORMALIZERS) <= set(TRANSFORMS)
