"""A plan as text: one topology in full, or several beside each other."""

from collections.abc import Sequence

from echofm_jax.planning.topology import GIB

NAMES = {
    "parameters": "parameters", "moments": "Adam's moments", "average": "average of parameters",
    "teacher": "teacher", "batch": "batch", "gradients": "gradients",
    "activations": "activations and temporaries",
    "gradients_and_activations": "gradients, activations, temporaries", "program": "program",
    "padding": "padding and outputs",
}  # fmt: skip


def describe(plan: dict) -> str:
    """One topology, every figure."""
    hbm, lines = plan["hbm"], []
    mesh = " × ".join(f"{size} {axis}" for axis, size in plan["mesh"].items() if size > 1)
    model = plan["model"]
    lines += [
        f"{plan['slices']} × {plan['topology']}: {plan['chips']} chips ({plan['device_kind']}), "
        f"{plan['hosts']} hosts, mesh {mesh or '1 chip'}, preset {plan['preset']}",
        f"{model['method']}, model {model['summary']}, {model['dtype']}, remat {model['remat']}; "
        f"{plan['batch_size']} clips a step, {plan['clips_per_chip']:g} a chip",
        f"{plan['steps']:,} steps = {plan['epochs']:.4g} epochs of {plan['clips']:,} clips",
        "",
        "HBM of one chip, GiB",
    ]
    lines += [f"  {name:38s}{gib(hbm[kind])}" for kind, name in NAMES.items() if hbm.get(kind)]
    verdict = "fits" if hbm["fits"] else f"DOES NOT FIT: {gib(hbm['over']).strip()} too much"
    lines += [f"  {'total':38s}{gib(hbm['total'])} of {gib(hbm['available']).strip()}: {verdict}"]
    if "largest_batch" in plan:
        lines.append(f"  {largest(plan['largest_batch'])}")
    for remedy in plan.get("remedies", []):
        change = " ".join(f"--config.{k}={v}" for k, v in remedy["change"].items())
        fits = "fits" if remedy["fits"] else "does not fit"
        lines.append(f"  {change}: {gib(remedy['total']).strip()} GiB, {fits}")
    if hbm["fits"]:
        lines += ["", *_work(plan)]
    lines += ["", "Assumptions", *(f"  - {text}" for text in plan["assumptions"])]
    compiler = plan["compiler"]
    how = "known from before" if compiler["cached"] else f"{compiler['seconds']:.0f} s"
    flags = f", flags {compiler['flags']}" if compiler["flags"] else ""
    return "\n".join([*lines, f"  - {compiler['versions']}{flags}; compiled: {how}"])


def _work(plan: dict) -> list[str]:
    bounds, time = plan["bounds"], plan["time"]
    lines = ["Collectives of a step", f"  {'MB':>9s} {'runs':>6s}"]
    for row in plan["collectives"]:
        beside = "asynchronous" if row["asynchronous"] else "synchronous"
        lines.append(
            f"  {row['bytes'] / 1e6:9.1f} {row['count']:6d}  {row['kind']} over {row['axes']} "
            f"({row['network']}), {row['dtype']}, {beside}"
        )
    if not plan["collectives"]:
        lines.append("  none")
    lines += ["", "A step, ms (fastest – slowest)"]
    for name, key in (("instructions", "instructions"), ("Pallas kernels", "kernels"),
                      ("collectives that nothing hides", "exposed_collectives")):  # fmt: skip
        lines.append(f"  {name:38s}{ms(time[key])}")
    lines += [
        f"  {'all':38s}{ms(time['step'])}",
        f"  {'per clip and chip':38s}{ms(time['step_per_clip'], 1)}",
        "",
        "Bounds, ms: what each resource needs by itself",
        f"  compute {bounds['compute'] * 1e3:.1f} ({plan['flops']['per_chip'] / 1e12:.2f} TFLOP a "
        f"chip at peak), HBM {bounds['hbm'] * 1e3:.1f} ({bounds['hbm_bytes'] / 1e9:.1f} GB), ICI "
        f"{bounds['ici'] * 1e3:.1f}, DCN {bounds['dcn'] * 1e3:.1f}: bound by "
        f"{bounds['bound_by'].upper() if bounds['bound_by'] != 'compute' else 'compute'}",
        "",
        f"MFU {percent(plan['mfu'])}; {span(plan['clips_per_s'])} clips/s, "
        f"{span(plan['clips_per_s_chip'], 1)} a chip",
        f"whole config: {span(plan['hours'], 1)} hours, {span(plan['chip_hours'])} chip-hours",
        _input(plan["input"]),
    ]
    if plan["kernels"]:
        lines += ["", "Pallas kernels, ms a step", f"  {'ms':>15s} {'runs':>6s}"]
        lines += [
            f"  {ms(row['seconds'], 2):>15s} {row['runs']:6d}  {row['name']}, "
            f"{row['cycles_issued']:,} cycles issued a run"
            for row in plan["kernels"]
        ]
    return [*lines, *_instructions(plan["instructions"])] if plan["instructions"] else lines


def _instructions(rows: Sequence[dict]) -> list[str]:
    lines = ["", "Most expensive instructions, ms a step: range, and what each engine needs"]
    lines.append(f"  {'ms':>15s} {'issue':>7s} {'matrix':>7s} {'HBM':>7s} {'runs':>5s}")
    for row in rows:
        engines = " ".join(f"{1e3 * row[name]:7.2f}" for name in ("issue", "matrix", "hbm"))
        lines.append(
            f"  {ms(row['seconds'], 2):>15s} {engines} {row['runs']:5d}  {row['opcode']} "
            f"{row['kind']} {row['shape'][:70]} {row['op_name'][-70:]}"
        )
    return lines


def _input(needed: dict) -> str:
    text = (
        f"input: {span(needed['clips_per_s_host'])} clips/s = "
        f"{span(needed['gb_per_s_host'], 2)} GB/s a host, {span(needed['clips_per_s_core'], 1)} "
        f"clips/s a core of {needed['host_cores']}"
    )
    if needed["measured_clips_per_s_core"] is None:
        return f"{text}; no measured loader to compare with (--loader-json)"
    verdict = "enough" if needed["enough"] else "NOT ENOUGH"
    return (
        f"{text}; measured {needed['measured_clips_per_s_core']:.0f} a core: "
        f"{span(needed['cores_needed'], 1)} cores needed, {verdict}"
    )


def compare(plans: Sequence[dict]) -> str:
    """Several topologies, one line each."""
    header = (
        f"{'topology':18s}{'chips':>6s}{'clips':>7s}{'HBM GiB':>14s}{'max':>6s}{'step ms':>14s}"
        f"{'ms/clip':>13s}{'MFU %':>10s}{'clips/s':>15s}{'hours':>12s}{'chip-hours':>14s}  bound"
    )
    lines = [header]
    for plan in plans:
        if "refused" in plan:
            lines.append(_refused(plan))
            continue
        hbm = plan["hbm"]
        slices = f"{plan['slices']} × " if plan["slices"] > 1 else ""
        memory = f"{hbm['total'] / GIB:.1f}/{hbm['available'] / GIB:.1f}"
        most = plan.get("largest_batch", {}).get("clips_per_chip")
        line = (
            f"{slices + plan['topology']:18s}{plan['chips']:6d}{plan['clips_per_chip']:7g}"
            f"{memory:>14s}{'' if most is None else f'{most:g}':>6s}"
        )
        if not hbm["fits"]:
            lines.append(f"{line}  does not fit: {hbm['over'] / GIB:.1f} GiB too much")
            continue
        time = plan["time"]
        lines.append(
            f"{line}{ms(time['step'], 0):>14s}{ms(time['step_per_clip'], 1):>13s}"
            f"{percent(plan['mfu']).removesuffix(' %'):>10s}{span(plan['clips_per_s']):>15s}"
            f"{span(plan['hours'], 1):>12s}{span(plan['chip_hours']):>14s}"
            f"  {plan['bounds']['bound_by']}"
        )
    return "\n".join(lines)


def weak_scaling(plans: Sequence[dict]) -> str:
    """The same work on every chip, ever more chips: what must stay the same.

    Bytes sent, since between slices one all-reduce becomes a reduce-scatter and an all-gather.
    """
    lines = [
        f"{'topology':18s}{'chips':>6s}{'HBM GiB':>9s}{'TFLOP/chip':>12s}{'ICI sent MB':>13s}"
        f"{'DCN sent MB':>13s}{'step ms':>14s}"
    ]
    for plan in plans:
        if "refused" in plan:
            lines.append(_refused(plan))
            continue
        slices = f"{plan['slices']} × " if plan["slices"] > 1 else ""
        line = (
            f"{slices + plan['topology']:18s}{plan['chips']:6d}{plan['hbm']['total'] / GIB:9.2f}"
            f"{plan['flops']['per_chip'] / 1e12:12.2f}"
        )
        if not plan["hbm"]["fits"]:
            lines.append(f"{line}  does not fit")
            continue
        sent = {
            network: sum(r["sent"] for r in plan["collectives"] if r["network"] == network) / 1e6
            for network in ("ici", "dcn")
        }
        lines.append(f"{line}{sent['ici']:13.1f}{sent['dcn']:13.1f}{ms(plan['time']['step']):>14s}")
    return "\n".join(lines)


def _refused(plan: dict) -> str:
    slices = f"{plan['slices']} × " if plan["slices"] > 1 else ""
    return f"{slices + plan['topology']:18s}{plan['chips']:6d}  {plan['refused']}"


def largest(found: dict) -> str:
    """The result of the search in words."""
    fails = found["does_not_fit"]
    if not found["clips_per_chip"]:
        return f"no batch fits: {fails:g} clips a chip is too much already"
    return (
        f"largest batch: {found['clips_per_chip']:g} clips a chip fit, {fails:g} do not "
        "(both compiled)"
    )


def gib(size: float) -> str:
    """Bytes → GiB in nine columns."""
    return f"{size / GIB:9.3f}" if size < 0.1 * GIB else f"{size / GIB:9.2f}"


def ms(seconds: Sequence[float], digits: int = 1) -> str:
    """A range of seconds in milliseconds."""
    return span([1e3 * s for s in seconds], digits)


def percent(shares: Sequence[float]) -> str:
    """A range of shares."""
    return f"{span([100 * s for s in shares], 1)} %"


def span(values: Sequence[float], digits: int = 0) -> str:
    """A range, once where its ends look alike."""
    low, high = (f"{value:,.{digits}f}" for value in values)
    return low if low == high else f"{low} – {high}"
