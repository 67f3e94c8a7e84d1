// interleave2: whole[2i + a, 2j + b] = phases[2a + b][i, j], and deinterleave2, its inverse. Both
// move bytes, in the largest units that a pixel is made of.
#include "device.h"
#include "launch.h"

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

template <bool Split>
void run(const Activation& a, const Phases& phases, void* whole) {
  const int64_t bytes = a.number == Number::Float ? 4 : 2;
  const int64_t pixel = a.channels_last ? a.c * bytes : bytes;
  const int64_t all = 4 * a.n * a.c * a.h * a.w * bytes;
  if (all == 0) return;
  bool aligned = is_aligned(whole);
  for (const void* phase : phases.at) aligned = aligned && is_aligned(phase);
  if (aligned && pixel % 16 == 0)
    launch_move<uint4, Split>(phases, whole, all / 16, a.w, pixel / 16, a.stream);
  else if (bytes == 4)
    launch_move<uint32_t, Split>(phases, whole, all / 4, a.w, pixel / 4, a.stream);
  else
    launch_move<uint16_t, Split>(phases, whole, all / 2, a.w, pixel / 2, a.stream);
  check_launch("interleave2");
}

}  // namespace

void interleave2(const Activation& a, const void* const phases[4], void* whole) {
  Phases from;
  for (int k = 0; k < 4; ++k) from.at[k] = const_cast<void*>(phases[k]);
  run<false>(a, from, whole);
}

void deinterleave2(const Activation& a, const void* whole, void* const phases[4]) {
  Phases to;
  for (int k = 0; k < 4; ++k) to.at[k] = phases[k];
  run<true>(a, to, const_cast<void*>(whole));
}

}  // namespace pgvae
