"""The shared object: it is built once and found again, its absence is reported clearly, and its tables are right."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from kernels import native
from kernels.linear_i8 import reference
from kernels.linear_i8.native import ADD, GELU, linear, pack_weight
from kernels.native import address, binding, build
from tests.kernels import tolerances

GENERATOR = torch.Generator().manual_seed(0)

GELU_ERROR = 1e-4
"""What kernels/native/source/rows.h promises: an eighth of the 8-bit resolution of MiniLM's narrowest row."""


@pytest.fixture
def _unloaded() -> Iterator[None]:
    native.library.cache_clear()
    yield
    native.library.cache_clear()


def isas() -> list[str]:
    return [isa for isa in native.ISAS if not native.why_not(isa)]


def test_plain_c_always_runs() -> None:
    assert isas()[-1] == "plain"
    loaded = native.library()
    assert loaded is not None
    assert list(loaded.kernels) == isas()


def test_an_object_is_built_once_and_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "HERE", tmp_path / "package")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    built = build.find_or_build()
    assert built == tmp_path / "lifelong" / "native" / f"{build.digest()}.so"
    first = built.stat()
    assert build.find_or_build() == built
    assert built.stat() == first
    assert list(built.parent.iterdir()) == [built]
    assert "plain" in binding.Library(built).kernels


def test_other_flags_are_another_object(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = build.digest()
    monkeypatch.setenv("CFLAGS", "-g")
    assert build.digest() != plain


@pytest.mark.parametrize(
    ("compiler", "reason"),
    [("no-such-compiler", "no C compiler"), ("false", "false -std=gnu11")],
)
@pytest.mark.usefixtures("_unloaded")
def test_without_an_object_torch_answers_and_one_warning_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiler: str, reason: str
) -> None:
    monkeypatch.setattr(build, "HERE", tmp_path / "package")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CC", compiler)
    with pytest.warns(native.NativeKernelsMissing, match=f"no native kernels: {reason}.*gcc"):
        assert native.library() is None
    assert native.why_not("plain") == ["the native kernels could not be built"]


def test_a_file_that_is_no_object_of_ours_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "broken.so"
    broken.write_bytes(b"not an object")
    with pytest.raises(OSError, match="broken"):
        binding.Library(broken)


def test_a_compiler_that_is_too_old_for_one_isa_builds_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "old-gcc"
    old.write_text('#!/bin/sh\ncase "$*" in *amx*) exit 1;; esac\nexec gcc "$@"\n')
    old.chmod(0o755)
    monkeypatch.setenv("CC", str(old))
    built = build.build(tmp_path / "built.so")
    assert list(binding.Library(built).kernels) == [isa for isa in isas() if isa != "amx"]


def test_the_build_needs_nothing_installed() -> None:
    """The build of the wheel runs it before torch is installed."""
    code = "import sys; sys.modules['torch'] = None; import runpy; runpy.run_path(sys.argv[1])"
    subprocess.run([sys.executable, "-S", "-c", code, str(Path(build.__file__))], check=True, timeout=60)


def test_rows_are_quantized_to_the_bit(isa: str) -> None:
    for width in (1, 15, 16, 17, 384, 1000):
        x_MK = torch.randn(7, width, generator=GENERATOR) * 3 + 1
        x_MK[3] = 2.5  # a constant row
        q_MK = torch.empty(7, width, dtype=torch.uint8)
        qparams_M2 = torch.empty(7, 2)
        shape = binding.Shape(7, width)
        native.kernels(isa).quantize_rows(address(x_MK), shape, address(q_MK), address(qparams_M2))
        expected, scale_M1, min_M1 = reference.quantize_rows(x_MK)
        assert torch.equal(q_MK, expected)
        assert torch.equal(qparams_M2, torch.cat((scale_M1, min_M1), dim=1))


@pytest.mark.parametrize(("num_out", "num_in"), [(70, 96), (96, 128)])
def test_epilogues(isa: str, num_out: int, num_in: int) -> None:
    """ADD adds the reference's y exactly; the GELU is piecewise, or a polynomial."""
    q_NK = torch.randint(-127, 128, (num_out, num_in), dtype=torch.int8, generator=GENERATOR)
    layer = reference.Int8Weight.of(q_NK, torch.full((num_out,), 0.004), torch.randn(num_out, generator=GENERATOR))
    packed = pack_weight(layer)
    x_MK = torch.randn(43, num_in, generator=GENERATOR)
    y_MN = reference.linear(x_MK, layer)
    assert y_MN.abs().max() > 5
    gelu_MN = linear(x_MK, packed, num_out, isa=isa, epilogue=GELU)
    assert (gelu_MN.double() - functional.gelu(y_MN.double())).abs().max() < GELU_ERROR
    stored_MN = torch.randn(43, num_out, generator=GENERATOR)
    sum_MN = stored_MN.clone()
    native.raise_for_status(native.kernels(isa).linear(ADD, address(x_MK), 43, address(packed), address(sum_MN)))
    assert torch.equal(sum_MN, y_MN + stored_MN)


@pytest.mark.parametrize(("num_out", "num_in"), [(70, 97), (96, 128)])
def test_sums_are_exact(isa: str, num_out: int, num_in: int) -> None:
    q_NK = torch.randint(-127, 128, (num_out, num_in), dtype=torch.int8, generator=GENERATOR)
    packed = pack_weight(reference.Int8Weight.of(q_NK, torch.ones(num_out), None))
    for num_rows in (1, 7, 40, 100):
        x_MK = torch.randint(0, 256, (num_rows, num_in), dtype=torch.uint8, generator=GENERATOR)
        sums_MN = torch.empty(num_rows, num_out, dtype=torch.int32)
        status = native.kernels(isa).accumulate(address(x_MK), num_rows, address(packed), address(sums_MN))
        native.raise_for_status(status)
        assert torch.equal(sums_MN, reference.accumulate(x_MK, q_NK)), num_rows


def test_norms_and_means(isa: str) -> None:
    x_MD = torch.randn(9, 48, generator=GENERATOR) * 4 - 1
    gain_D = torch.randn(48, generator=GENERATOR)
    bias_D = torch.randn(48, generator=GENERATOR)
    found = x_MD.clone()
    norm = binding.Norm(address(gain_D), address(bias_D), None, 1e-5)
    native.kernels(isa).norm_rows(address(found), binding.Shape(9, 48), norm)
    exact_MD = functional.layer_norm(x_MD.double(), (48,), gain_D.double(), bias_D.double(), 1e-5)
    tolerances.assert_within(found, exact_MD, tolerances.layer_norm(x_MD, gain_D, bias_D))
    offsets_B = torch.tensor([0, 1, 6, 9], dtype=torch.int32)
    means_BD = torch.empty(3, 48)
    native.kernels(isa).mean_rows(address(x_MD), 48, address(offsets_B), 3, address(means_BD))
    for mean_D, x_SD in zip(means_BD, (x_MD[:1], x_MD[1:6], x_MD[6:]), strict=True):
        tolerances.assert_within(mean_D, x_SD.double().mean(dim=0), tolerances.mean(x_SD))
