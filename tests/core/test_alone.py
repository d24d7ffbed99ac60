"""One process alone is a world of its own; a device is named or chosen."""

from __future__ import annotations

import pytest
import torch

from langmill.core import device as devices
from langmill.core.device import choose_device, has_bfloat16, measure_machine, training_dtype
from langmill.core.distributed import World, join, world
from langmill.core.errors import ConfigError
from langmill.core.products import cpu_products, rounds_products


def test_alone_nothing_is_exchanged() -> None:
    here = join()
    value, weight = torch.tensor(3.0), torch.nn.Parameter(torch.ones(2))
    weight.grad = torch.tensor([1.0, 2.0])
    here.sum(value)
    here.sum_gradients([weight])
    here.barrier()
    here.leave()
    with here.main_first():
        pass
    assert here == World() and here.is_main
    assert value == 3 and weight.grad.tolist() == [1, 2]
    assert here.agree(float("inf")) == float("inf")
    assert (here.any(True), here.any(False)) == (True, False)


def test_torchrun_tells_each_process_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("RANK", "3"), ("WORLD_SIZE", "4"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    assert world() == World(rank=3, size=4, local_rank=1)
    assert not world().is_main


def test_bfloat16_only_where_there_is_hardware_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(devices, "has_bfloat16", lambda device: True)
    assert training_dtype(cpu) == training_dtype(cpu, "bfloat16") == torch.bfloat16
    monkeypatch.setattr(devices, "has_bfloat16", lambda device: False)
    assert training_dtype(cpu) == torch.float32
    with pytest.raises(ConfigError, match="precision bfloat16 asked for, but cpu has no hardware"):
        training_dtype(cpu, "bfloat16")


def test_products_round_while_asked_to() -> None:
    a, b = torch.randn(256, 256), torch.randn(256, 256)  # smaller ones may be exact even so
    exact = a @ b
    with cpu_products(torch.bfloat16):
        assert rounds_products() or not hasattr(torch.backends.mkldnn, "matmul")
        rounded = a @ b
        with cpu_products(torch.float32):
            assert torch.equal(a @ b, exact)
    assert not rounds_products()
    assert torch.equal(a @ b, exact)
    assert has_bfloat16(torch.device("cpu")) == (not torch.equal(rounded, exact))


def test_devices() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert training_dtype(torch.device("cpu"), "float32") == torch.float32
    with pytest.raises(ConfigError, match="device 'gpu' is unknown; use auto, cpu, cuda"):
        choose_device("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="torch sees no CUDA GPU"):
            choose_device("cuda")


def test_a_machine_is_measured() -> None:
    machine = measure_machine(torch.device("cpu"), seconds=0.02)
    assert machine.matmul_flops > 1e6
    assert machine.read_bytes > 1e6
    assert machine.threads == torch.get_num_threads()
