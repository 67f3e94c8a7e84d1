// CUDA on a CPU, one thread after another, so that g++ compiles and tests run the real .cu files.
//
// Every CUDA thread of a block is a fiber. __syncthreads and the warp shuffles are true barriers:
// a fiber waits until all live threads of its block, or warp, have arrived, and a barrier that
// some thread never reaches ends the program. Blocks run in order. It cannot find data races
// between barriers; compute-sanitizer on a GPU does.
#pragma once

#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __restrict__
#define __launch_bounds__(...)
#define __shared__ static  // blocks run one after another

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};
struct alignas(8) uint2 {
  uint32_t x, y;
};
struct __nv_bfloat16 {
  uint16_t bits;
};

using cudaStream_t = void*;
enum cudaError_t { cudaSuccess = 0 };
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline const char* cudaGetErrorString(cudaError_t) { return ""; }

inline float __bfloat162float(__nv_bfloat16 value) {
  const uint32_t bits = uint32_t(value.bits) << 16;
  float result;
  std::memcpy(&result, &bits, 4);
  return result;
}
inline __nv_bfloat16 __float2bfloat16_rn(float value) {
  if (value != value) return {0x7fff};
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return {uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
}
inline float rsqrtf(float value) { return 1 / std::sqrt(value); }
template <class T>
T __ldg(const T* address) {
  return *address;
}

namespace simt {

struct Barrier {
  int waiting = 0, generation = 0;
};

struct Block {
  dim3 grid, size, block, thread;
  int threads, current, live;
  bool progress;  // did anything happen since all fibers were last asked?
  std::vector<ucontext_t> fibers;
  std::vector<std::unique_ptr<char[]>> stacks;
  std::vector<char> done;
  std::vector<int> live_in_warp;
  std::vector<uint32_t> exchanged;
  std::vector<Barrier> warps;
  Barrier all;
  ucontext_t scheduler;
  std::function<void()> kernel;
};

inline Block& state() {
  static Block block;
  return block;
}

inline void run_fiber() {
  Block& b = state();
  b.kernel();
  b.done[b.current] = true;
  --b.live;
  --b.live_in_warp[b.current / 32];
  b.progress = true;
  swapcontext(&b.fibers[b.current], &b.scheduler);
}

// Waits until `live` threads have come; a thread that leaves for good lets the others through.
inline void wait(Barrier& barrier, const int& live) {
  Block& b = state();
  const int mine = barrier.generation;
  ++barrier.waiting;
  b.progress = true;
  while (barrier.generation == mine) {
    if (barrier.waiting >= live) {
      barrier.waiting = 0;
      ++barrier.generation;
      b.progress = true;
      return;
    }
    swapcontext(&b.fibers[b.current], &b.scheduler);
  }
}

inline void run_block() {
  constexpr int kStack = 65536;
  Block& b = state();
  b.done.assign(b.threads, false);
  b.live = b.threads;
  b.live_in_warp.assign((b.threads + 31) / 32, 0);
  b.warps.assign((b.threads + 31) / 32, Barrier());
  b.all = Barrier();
  for (int t = 0; t < b.threads; ++t) {
    ++b.live_in_warp[t / 32];
    getcontext(&b.fibers[t]);
    b.fibers[t].uc_stack.ss_sp = b.stacks[t].get();
    b.fibers[t].uc_stack.ss_size = kStack;
    b.fibers[t].uc_link = nullptr;
    makecontext(&b.fibers[t], run_fiber, 0);
  }
  while (b.live) {
    b.progress = false;
    for (int t = 0; t < b.threads; ++t) {
      if (b.done[t]) continue;
      b.current = t;
      b.thread = dim3(t % b.size.x, t / b.size.x % b.size.y, t / (b.size.x * b.size.y));
      swapcontext(&b.scheduler, &b.fibers[t]);
    }
    if (!b.progress) {
      std::fprintf(stderr, "simt: a barrier is not reached by every thread\n");
      std::abort();
    }
  }
}

inline void launch(dim3 grid, dim3 size, std::function<void()> kernel) {
  Block& b = state();
  b.grid = grid;
  b.size = size;
  b.threads = size.x * size.y * size.z;
  b.kernel = std::move(kernel);
  b.fibers.resize(b.threads);
  b.exchanged.assign(b.threads, 0);
  while (int(b.stacks.size()) < b.threads) b.stacks.emplace_back(new char[65536]);
  for (unsigned z = 0; z < grid.z; ++z)
    for (unsigned y = 0; y < grid.y; ++y)
      for (unsigned x = 0; x < grid.x; ++x) {
        b.block = dim3(x, y, z);
        run_block();
      }
}

}  // namespace simt

#define threadIdx (simt::state().thread)
#define blockIdx (simt::state().block)
#define blockDim (simt::state().size)
#define gridDim (simt::state().grid)

inline void __syncthreads() { simt::wait(simt::state().all, simt::state().live); }

inline float __shfl_xor_sync(unsigned, float value, int mask) {
  simt::Block& b = simt::state();
  const int me = b.current, warp = me / 32;
  std::memcpy(&b.exchanged[me], &value, 4);
  simt::wait(b.warps[warp], b.live_in_warp[warp]);
  float result;
  const int other = (me & ~31) | ((me ^ mask) & 31);
  std::memcpy(&result, &b.exchanged[other < b.threads ? other : me], 4);
  simt::wait(b.warps[warp], b.live_in_warp[warp]);
  return result;
}

#define PGVAE_LAUNCH(kernel, grid, block, stream, ...) \
  ((void)(stream), simt::launch(grid, block, [=] { kernel(__VA_ARGS__); }))
