import ctypes
import subprocess
import sys
import textwrap

import pytest
import torch

from dfpipe.config import TrainConfig
from dfpipe.errors import ConfigError, ResourceError
from dfpipe.train.memory import BYTES_PER_LEARNING_PARAMETER, check_fits, free_bytes, needed_bytes
from dfpipe.train.models import FaceClassifier, create_model
from dfpipe.train.stages import set_free


@pytest.fixture(scope="module")
def network() -> FaceClassifier:
    return create_model(TrainConfig("resnet18", "none", image_size=64))[0]


def test_a_batch_costs_in_proportion_and_parameters_their_share(network: FaceClassifier) -> None:
    set_free(network, "all")
    fixed = BYTES_PER_LEARNING_PARAMETER * sum(p.numel() for p in network.parameters())
    one, two = (needed_bytes(network, 64, batch) - fixed for batch in (8, 16))
    assert two == pytest.approx(2 * one, rel=0.05)
    # A 64 px ResNet-18 keeps at least the 64 maps of 32 x 32 of its first layer, in float32, and not a hundred times that.
    first = 8 * 64 * 32 * 32 * 4
    assert first < one < 100 * first


def test_frozen_networks_need_far_less(network: FaceClassifier) -> None:
    set_free(network, "all")
    all_free = needed_bytes(network, 64, 8)
    set_free(network, "frozen")
    assert needed_bytes(network, 64, 8) < all_free / 3
    set_free(network, "all")


def test_the_probe_leaves_no_trace(network: FaceClassifier) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state(), {k: v.clone() for k, v in network.state_dict().items()}
    network.train()
    needed_bytes(network, 64, 8)
    assert network.training
    assert torch.equal(before[0], torch.get_rng_state())
    assert all(torch.equal(v, before[1][k]) for k, v in network.state_dict().items())


def test_what_does_not_fit_is_refused_with_what_would(network: FaceClassifier) -> None:
    need = needed_bytes(network, 64, 64)
    check_fits(network, 64, 64, 2 * need)
    check_fits(network, 64, 64, None)
    with pytest.raises(ResourceError, match=r"train\.batch_size=(\d+) --set train\.accumulate=(\d+)") as caught:
        check_fits(network, 64, 64, int(0.7 * need))
    size, parts = (int(word.split("=")[1].rstrip(":")) for word in str(caught.value).split() if "=" in word)
    assert 64 <= size * parts < 64 + parts
    check_fits(network, 64, size, int(0.7 * need))
    with pytest.raises(ResourceError, match="no batch of this network fits"):
        check_fits(network, 64, 64, 1_000_000)


def test_pictures_that_a_network_cannot_take() -> None:
    network = create_model(TrainConfig("inception_v3", "none", image_size=32))[0]
    with pytest.raises(ConfigError, match="no pictures of 32 px for this network"):
        check_fits(network, 32, 8, None)


def test_free_memory_of_this_machine() -> None:
    free = free_bytes(torch.device("cpu"))
    assert free is None or 1e7 < free < 1e14


@pytest.mark.skipif(sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"), reason="glibc alone has it")
def test_freed_memory_is_used_again() -> None:
    """In a process of its own, because it is for good: pages that a step had are not asked for anew."""
    code = """
        import resource, torch
        from dfpipe.train.memory import keep_freed_memory

        def faults():
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            torch.ones(20_000_000)
            return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

        faults()
        bare = faults()
        keep_freed_memory()
        faults(), faults()  # what is asked for anew once, or twice
        print(faults() < bare / 10)
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "True"
