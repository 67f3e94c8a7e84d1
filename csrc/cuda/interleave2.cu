// interleave2: whole[2i + a, 2j + b] = phases[2a + b][i, j], and deinterleave2, its inverse. Both
// move bytes, in the largest units that a pixel is made of.
#include "op.h"

namespace pgvae {
namespace {

struct Phases {
  void* at[4];
};

// Units of the whole image; a pixel has `inner` of them. Index: 32 bits where they suffice.
template <class Unit, class Index, bool Split>
__global__ void __launch_bounds__(kThreads)
    move(Phases phases, Unit* __restrict__ whole, Index units, Index w, Index inner) {
  for (Index u = Index(blockIdx.x) * kThreads + threadIdx.x; u < units;
       u += Index(gridDim.x) * kThreads) {
    const Index pixel = u / inner, column = pixel % (2 * w), row = pixel / (2 * w);
    // Rows of all images count on: 2h is even, so a row's parity and half are right.
    const Index from = (row / 2 * w + column / 2) * inner + u % inner;
    Unit* phase = static_cast<Unit*>(phases.at[row % 2 * 2 + column % 2]);
    if (Split) phase[from] = whole[u];
    else whole[u] = phase[from];
  }
}

template <class Unit, bool Split>
void launch_move(const Phases& phases, void* whole, int64_t units, int64_t w,
                 int64_t inner, void* stream) {
  const dim3 grid(blocks_for(units, kThreads)), block(kThreads);
  Unit* to = static_cast<Unit*>(whole);
  if (units < int64_t(1) << 31)
    PGVAE_LAUNCH((move<Unit, uint32_t, Split>), grid, block, stream, phases, to, uint32_t(units),
                 uint32_t(w), uint32_t(inner));
  else
    PGVAE_LAUNCH((move<Unit, int64_t, Split>), grid, block, stream, phases, to, units, w, inner);
}

// `s` is the shape of a phase.
template <bool Split>
void run(const Shape& s, ScalarType type, const Phases& phases, void* whole, void* stream) {
  const bool two = type == ScalarType::BFloat16 || type == ScalarType::Half;
  check_number(two || type == ScalarType::Float);
  const int64_t bytes = two ? 2 : 4;
  const int64_t pixel = s.channels_last ? s.c * bytes : bytes;
  const int64_t all = 4 * s.numel() * bytes;
  if (all == 0) return;
  bool aligned = is_aligned(whole);
  for (const void* phase : phases.at) aligned = aligned && is_aligned(phase);
  if (aligned && pixel % 16 == 0)
    launch_move<uint4, Split>(phases, whole, all / 16, s.w, pixel / 16, stream);
  else if (bytes == 4)
    launch_move<uint32_t, Split>(phases, whole, all / 4, s.w, pixel / 4, stream);
  else
    launch_move<uint16_t, Split>(phases, whole, all / 2, s.w, pixel / 2, stream);
  check_launch("interleave2");
}

Tensor interleave2(const Tensor& p0, const Tensor& p1, const Tensor& p2, const Tensor& p3) {
  const OnDevice device(p0);
  const Tensor first = dense(p0);
  const Tensor parts[4] = {first, laid_out_as(p1, first), laid_out_as(p2, first),
                           laid_out_as(p3, first)};
  const Shape s = shape_of(first);
  Tensor whole = empty_as(first, {s.n, s.c, 2 * s.h, 2 * s.w, s.channels_last});
  Phases from;
  for (int k = 0; k < 4; ++k) from.at[k] = const_cast<void*>(parts[k].const_data_ptr());
  run<false>(s, first.scalar_type(), from, whole.mutable_data_ptr(), device.stream);
  return whole;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> deinterleave2(const Tensor& input) {
  const OnDevice device(input);
  const Tensor x = dense(input);
  const Shape half = halved(shape_of(x));
  Tensor parts[4] = {empty_as(x, half), empty_as(x, half), empty_as(x, half), empty_as(x, half)};
  Phases to;
  for (int k = 0; k < 4; ++k) to.at[k] = parts[k].mutable_data_ptr();
  run<true>(half, x.scalar_type(), to, const_cast<void*>(x.const_data_ptr()), device.stream);
  return {parts[0], parts[1], parts[2], parts[3]};
}

STABLE_TORCH_LIBRARY_IMPL(pgvae, PGVAE_DEVICE, m) {
  m.impl("interleave2", TORCH_BOX(&interleave2));
  m.impl("deinterleave2", TORCH_BOX(&deinterleave2));
}

}  // namespace
}  // namespace pgvae
