# ruff: noqa: E501 - compiled text has long lines
"""Parsing of compiled text: by hand, and as the TPU's compiler writes it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from echofm_jax.planning import aot, collectives, hlo, roofline, schedule, topology, traffic
from echofm_jax.planning.expensive import expensive

HERE = Path(__file__).parent
STEP = """\
HloModule step, is_scheduled=true

%body (p: (s32[], f32[8,128])) -> (s32[], f32[8,128]) {
  %p = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%p), index=0
  %x = f32[8,128]{1,0:T(8,128)} get-tuple-element(%p), index=1
  %one = s32[]{:T(128)} constant(1)
  %next = s32[]{:T(128)} add(%i, %one)
  %y = f32[8,128]{1,0:T(8,128)} add(%x, %x), metadata={op_name="jit(step)/while/body/add"}, backend_config={"window_config":{"estimated_cycles":"100"}}
  %sum = f32[8,128]{1,0:T(8,128)} all-reduce(%y), channel_id=1, replica_groups=[2,2]<=[4], to_apply=%add
  %again = bf16[8,128]{1,0:T(8,128)} all-reduce(%y), channel_id=1, replica_groups={{0,2},{1,3}}, to_apply=%add
  ROOT %t = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) tuple(%next, %sum)
}

%condition (p.1: (s32[], f32[8,128])) -> pred[] {
  %p.1 = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) parameter(0)
  %i.1 = s32[]{:T(128)} get-tuple-element(%p.1), index=0
  %limit = s32[]{:T(128)} constant(7)
  ROOT %less = pred[]{:T(512)} compare(%i.1, %limit), direction=LT
}

%small (a: f32[8,128]) -> f32[8,128] {
  %a = f32[8,128]{1,0:T(8,128)} parameter(0)
  ROOT %negative = f32[8,128]{1,0:T(8,128)} negate(%a), backend_config={"window_config":{"estimated_cycles":"3"}}
}

%large (b: f32[8,128]) -> f32[8,128] {
  %b = f32[8,128]{1,0:T(8,128)} parameter(0)
  ROOT %root = f32[8,128]{1,0:T(8,128)} sqrt(%b), backend_config={"window_config":{"estimated_cycles":"40"}}
}

%fused (q: f32[24,8,128], r: s32[]) -> f32[8,128] {
  %q = f32[24,8,128]{2,1,0:T(8,128)} parameter(0)
  %r = s32[]{:T(128)S(6)} parameter(1)
  %zero = s32[]{:T(128)} constant(0)
  %part = f32[1,8,128]{2,1,0:T(8,128)} dynamic-slice(%q, %r, %zero, %zero), dynamic_slice_sizes={1,8,128}
  ROOT %flat = f32[8,128]{1,0:T(8,128)} bitcast(%part)
}

ENTRY %main (k: f32[24,8,128], which: s32[]) -> f32[8,128] {
  %k = f32[24,8,128]{2,1,0:T(8,128)} parameter(0)
  %which = s32[]{:T(128)S(6)} parameter(1)
  %start = s32[]{:T(128)} constant(2)
  %layer = f32[8,128]{1,0:T(8,128)} fusion(%k, %which), kind=kLoop, calls=%fused, frontend_attributes={note={
"over": "several lines"
}}, backend_config={"window_config":{"estimated_cycles":"1000"}}
  %init = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) tuple(%start, %layer)
  %loop = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) while(%init), condition=%condition, body=%body, metadata={op_name="jit(step)/while"}
  %out = f32[8,128]{1,0:T(8,128)} get-tuple-element(%loop), index=1
  ROOT %chosen = f32[8,128]{1,0:T(8,128)} conditional(%which, %out, %out), branch_computations={%small, %large}
}
"""


def test_a_step_by_hand():
    """A loop from 2 to 7, the dearer branch, and a fusion whose attributes span lines."""
    module = hlo.parse(STEP)
    assert module.cycles == 1000 + 5 * 100 + 40
    first, second = expensive(module, 2)
    assert (first["name"], first["cycles"], first["kind"]) == ("layer", 1000, "kLoop")
    assert (second["op_name"], second["runs"], second["cycles"]) == (
        "jit(step)/while/body/add", 5, 500,
    )  # fmt: skip
    one, other = collectives.collectives(module, {"data": 2, "fsdp": 2})  # on the same channel
    assert (one.kind, one.axes, one.times, one.dtypes) == ("all-reduce", ("fsdp",), 5, ("f32",))
    assert one.bytes == 8 * 128 * 4 and one.sent == 8 * 128 * 4 and not one.asynchronous
    assert (other.axes, other.bytes) == (("data",), 8 * 128 * 2)


def test_an_asynchronous_collective_is_one_however_many_fusions_carry_it():
    """Start, one part beside 70 cycles of work, end; then the next one on the same channel."""
    part = (
        "%c{n} (p{n}: bf16[2,8]) -> bf16[8,8] {{\n  %p{n} = bf16[2,8]{{1,0}} parameter(0)\n"
        "  ROOT %g{n} = bf16[8,8]{{1,0}} all-gather(%p{n}), channel_id=1, "
        "replica_groups=[1,4]<=[4], dimensions={{0}}, "
        'backend_config={{"async_collective_fusion_config":{{"flag_start":"{flag}"}}}}\n}}\n'
    )
    run = (
        "  %f{n} = bf16[8,8]{{1,0}} fusion(%x), kind=kCustom, calls=%c{n}, "
        'backend_config={{"estimated_cycles":"{cycles}"}}\n'
    )
    flags, cycles = (-1, 2, 2, -1, 2), (0, 70, 0, 0, 0)
    text = "".join(part.format(n=n, flag=flag) for n, flag in enumerate(flags))
    text += "ENTRY %main (x: bf16[2,8]) -> bf16[8,8] {\n  %x = bf16[2,8]{1,0} parameter(0)\n"
    text += "".join(run.format(n=n, cycles=c) for n, c in enumerate(cycles)) + "}\n"
    first, second = collectives.collectives(hlo.parse(text), {"data": 4})
    assert first.asynchronous and first.overlap_cycles == 70 and first.bytes == 128
    assert second.asynchronous and second.overlap_cycles == 0


def test_a_known_trip_count_is_believed():
    known = STEP.replace(
        'op_name="jit(step)/while"}',
        'op_name="jit(step)/while"}, backend_config={"known_trip_count":{"n":"3"}}',
    )
    assert hlo.parse(known).cycles == 1000 + 3 * 100 + 40


def test_a_limit_that_the_loop_carries():
    """Here it is the counter's own first value, so the body never runs."""
    carried = STEP.replace("%limit = s32[]{:T(128)} constant(7)", "%limit = s32[] copy(%i.1)")
    assert hlo.parse(carried).cycles == 1000 + 40


def test_text_that_is_no_module():
    with pytest.raises(ValueError, match="no ENTRY"):
        hlo.parse("nothing")


def test_bytes_as_they_lie_in_memory():
    narrow, placed, flat = hlo.arrays(
        "(bf16[8,16,100,32]{3,2,1,0:T(8,128)(2,1)}, f32[4,4]{0,1:T(2,128)S(1)}, u8[12]{0})"
    )
    assert narrow.bytes == 8 * 16 * 100 * 32 * 2
    assert narrow.padded_bytes == 8 * 16 * 104 * 128 * 2
    assert narrow.in_hbm and not placed.in_hbm
    assert placed.padded_bytes == 4 * 128 * 4
    assert flat.padded_bytes == 12


def test_a_slice_of_a_stack_is_what_is_read():
    module = hlo.parse(STEP)
    layer = next(run for run in module.runs if run.instruction.name == "layer")
    assert traffic.hbm_bytes(module, layer) == 2 * 8 * 128 * 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{0,1},{2,3}}", [[0, 1], [2, 3]]),
        ("[2,2]<=[4]", [[0, 1], [2, 3]]),
        ("[2,2]<=[2,2]T(1,0)", [[0, 2], [1, 3]]),
        ("mesh['a'=2,'b'=2] {'b'}", [[0, 1], [2, 3]]),
        ("mesh['a'=2,'b'=2] {'a'}", [[0, 2], [1, 3]]),
        ("mesh['a'=2,'b'=2] {'a','b'}", [[0, 1, 2, 3]]),
        ("mesh['a'=4] {'a':(2)2}", [[0, 1], [2, 3]]),
        ("mesh['a'=4] {'a':(1)2}", [[0, 2], [1, 3]]),
        ("{}", [[0, 1, 2, 3]]),
    ],
)
def test_replica_groups(text, expected):
    assert collectives.groups(text, 4).tolist() == expected


def test_products_hidden_in_dilated_windows():
    """A batched product 4 × [5, 6]·[6, 7] as the TPU's compiler writes it."""
    text = """\
ENTRY %main (a: f32[4,5,6], b: f32[4,7,6]) -> f32[4,5,7] {
  %a = f32[4,5,6]{2,1,0} parameter(0)
  %b = f32[4,7,6]{2,1,0} parameter(1)
  ROOT %c = f32[4,5,7]{2,1,0} convolution(%a, %b), window={size=4 stride=3 lhs_dilate=4}, dim_labels=0bf_0oi->0bf
}
"""
    module = hlo.parse(text)
    found = traffic.matrix_flops(module, "main", module.computations["main"][-1])
    assert found == 2 * 4 * 5 * 6 * 7


def test_bundles_in_loops_count_with_their_trips():
    bundles = """\
LB: loop body
     0   :  { %a = start }
   0x1 LB: > { %b = outer }
   0x2 LB: >> { %c = inner }
   0x3   : >> { %p = scmp.ge.s32.totalorder %c, 4 /* loop exit test */ }
   0x4   :  { %d = on a region's edge }
   0x5   : > { %p = scmp.ge.s32.totalorder %b, 10 /* loop exit test */ }
   0x6   :  { %e = end }
"""
    assert schedule.issued(bundles) == 1 + 10 * (1 + 2 * 4 + 1 + 1)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Small functions, compiled for v5e: name → (module, cycles issued)."""
    pytest.importorskip("libtpu", reason=aot.REASON)
    folder = tmp_path_factory.mktemp("tpu")
    (folder / "dump").mkdir()
    flags = schedule.FLAGS.format(folder=folder / "dump")
    names = ("product", "loop", "kernel")
    subprocess.run(
        [sys.executable, HERE / "compile_for_tpu.py", folder / "out.json", *names],
        env=os.environ | aot.ENVIRONMENT | {"LIBTPU_INIT_ARGS": flags},
        check=True,
        capture_output=True,
    )
    texts = json.loads((folder / "out.json").read_text())
    return {name: hlo.parse(texts[name]["text"]) for name in names}, schedule.read(folder / "dump")


def test_a_product_takes_about_as_long_as_its_matrix_units(compiled):
    modules, _ = compiled
    module = modules["product"]
    (run,) = [run for run in module.runs if run.cycles]
    assert traffic.matrix_flops(module, run.computation, run.instruction) == 2 * 1024**3
    chip = topology.CHIPS["v5e"]
    bound = 2 * 1024**3 / chip.cycle_flops
    assert bound < run.cycles < 2 * bound
    spent = roofline.instruction_times(module, run, {}, topology.parse("v5e:2x2"))
    assert spent.low == pytest.approx(bound / chip.clock_hz)
    assert spent.high == pytest.approx(run.cycles / chip.clock_hz)


def test_a_scan_of_five_with_its_sums(compiled):
    """[512, 512] over 2 × 2 chips: 256 × 256 float32 summed over `a` five times, over `b` once."""
    module = compiled[0]["loop"]
    (product,) = {run.times for run in module.runs if run.cycles}
    assert product == 5
    found = collectives.collectives(module, {"a": 2, "b": 2})
    assert [(c.kind, c.axes, c.times, c.bytes, c.dtypes) for c in found] == [
        ("all-reduce", ("a",), 5, 256 * 256 * 4, ("f32",)),
        ("all-reduce", ("b",), 1, 256 * 256 * 4, ("f32",)),
    ]
    rows = collectives.summary(found)
    assert [(row["axes"], row["bytes"], row["count"]) for row in rows] == [
        ("a", 5 * 256 * 256 * 4, 5), ("b", 256 * 256 * 4, 1),
    ]  # fmt: skip


def test_a_kernel_has_its_schedule(compiled):
    """Splash attention of 2 heads over 512 tokens: two products of 512 × 512 × 128 each."""
    modules, issued = compiled
    (run,) = modules["kernel"].kernels
    assert run.times == 3 and run.instruction.cycles == 0
    bound = 2 * 2 * 2 * 512 * 512 * 128 / topology.CHIPS["v5e"].cycle_flops
    assert bound < issued[run.instruction.name] < 4 * bound
    spent = roofline.instruction_times(modules["kernel"], run, issued, topology.parse("v5e:1x1"))
    assert spent.high > spent.low > 3 * bound / topology.CHIPS["v5e"].clock_hz
