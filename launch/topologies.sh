# Sourced: what Google Cloud calls a TPU slice, and how its chips are spread over hosts.

# topology   gcloud accelerator type   chips a host
# (v5p counts TensorCores, two a chip; a 2x4 slice of v5e or v6e is one host of eight chips)
TOPOLOGIES='
v5e:1x1       v5litepod-1    1
v5e:2x2       v5litepod-4    4
v5e:2x4       v5litepod-8    8
v5e:4x4       v5litepod-16   4
v5e:4x8       v5litepod-32   4
v5e:8x8       v5litepod-64   4
v5e:8x16      v5litepod-128  4
v5e:16x16     v5litepod-256  4
v6e:1x1       v6e-1          1
v6e:2x2       v6e-4          4
v6e:2x4       v6e-8          8
v6e:4x4       v6e-16         4
v6e:4x8       v6e-32         4
v6e:8x8       v6e-64         4
v6e:8x16      v6e-128        4
v6e:16x16     v6e-256        4
v5p:2x2x1     v5p-8          4
v5p:2x2x2     v5p-16         4
v5p:2x2x4     v5p-32         4
v5p:2x4x4     v5p-64         4
v5p:4x4x4     v5p-128        4
v5p:4x4x8     v5p-256        4
v5p:4x8x8     v5p-512        4
v5p:8x8x8     v5p-1024       4
v5p:8x8x16    v5p-2048       4
v5p:8x16x16   v5p-4096       4
v5p:16x16x16  v5p-8192       4
v5p:16x16x24  v5p-12288      4
'

# Finds a slice by topology (v5e:16x16) or accelerator type (v5litepod-256) and sets
#   generation shape accelerator_type chips_per_host hosts_per_slice runtime_version gke_accelerator
choose_topology() {
  local wanted=$1 topology type per_host found=
  while read -r topology type per_host; do
    [ "$wanted" = "$topology" ] || [ "$wanted" = "$type" ] || continue
    found=$topology accelerator_type=$type chips_per_host=$per_host
  done <<<"$TOPOLOGIES"
  if [ -z "$found" ]; then
    refuse "unknown topology '$wanted': $(awk 'NF {printf "%s, ", $1}' <<<"$TOPOLOGIES")" \
      "or an accelerator type such as v5litepod-256"
  fi
  generation=${found%%:*} shape=${found#*:}
  hosts_per_slice=$((${shape//x/ * } / chips_per_host))
  case $generation in
    v5e) runtime_version=v2-alpha-tpuv5-lite gke_accelerator=tpu-v5-lite-podslice ;;
    v6e) runtime_version=v2-alpha-tpuv6e gke_accelerator=tpu-v6e-slice ;;
    v5p) runtime_version=v2-alpha-tpuv5 gke_accelerator=tpu-v5p-slice ;;
  esac
}
