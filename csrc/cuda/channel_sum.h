// Sums over pixels for each channel, in two stages without atomics: blocks leave partial sums
// [blocks, channels], and one more kernel adds those in a fixed order.
#pragma once

#include "op.h"

namespace pgvae {

// Few blocks add many partial sums, so each has as many threads as there can be.
constexpr int kRows = 32;

// partial [count, channels] -> sums [channels]. Grid: ceil(channels / kColumns).
static __global__ void __launch_bounds__(kColumns* kRows)
    add_partials(const float* __restrict__ partial, float* __restrict__ sums, int count,
                 int64_t channels) {
  const int64_t c = int64_t(blockIdx.x) * kColumns + threadIdx.x;
  float sum = 0;
  if (c < channels)
#pragma unroll 8
    for (int i = threadIdx.y; i < count; i += kRows) sum += partial[i * channels + c];
  const bool writes = threadIdx.y == 0 && c < channels;
  sum = sum_column<kRows>(sum, writes);
  if (writes) sums[c] = sum;
}

inline void launch_add_partials(const float* partial, float* sums, int count, int64_t channels,
                                void* stream) {
  if (channels == 0) return;
  PGVAE_LAUNCH(add_partials, dim3(ceil_divide(channels, kColumns)), dim3(kColumns, kRows), stream,
               partial, sums, count, channels);
  check_launch("add_partials");
}

// One block a channel and part of the pixels; any memory format.
template <class T>
static __global__ void __launch_bounds__(kThreads)
    sum_pixels(const T* __restrict__ x, float* __restrict__ partial, int64_t images,
               int64_t channels, int64_t pixels, bool channels_last) {
  const int64_t c = blockIdx.x, step = int64_t(gridDim.y) * kThreads;
  float sum = 0;
  for (int64_t p = int64_t(blockIdx.y) * kThreads + threadIdx.x; p < images * pixels; p += step)
    sum += load(channels_last ? x[p * channels + c]
                              : x[(p / pixels * channels + c) * pixels + p % pixels]);
  sum = sum_block(sum);
  if (threadIdx.x == 0) partial[blockIdx.y * channels + c] = sum;
}

// For layouts without a fast kernel: the sum over pixels of a whole activation.
template <class T>
void launch_sum_pixels(const Shape& s, const T* x, float* partial, float* sums, void* stream) {
  if (s.c == 0) return;
  const int64_t pixels = s.n * s.pixels();
  const int parts = int(pixels < 64 * kThreads ? ceil_divide(pixels + 1, kThreads) : 64);
  PGVAE_LAUNCH(sum_pixels<T>, dim3(s.c, parts), dim3(kThreads), stream, x, partial, s.n, s.c,
               s.pixels(), s.channels_last);
  check_launch("sum_pixels");
  launch_add_partials(partial, sums, parts, s.c, stream);
}

// How a block of kThreads covers channels_last pixels for vectors of V channels: threads along x
// keep to their vector of channels, so that each sums its own; threads along y and blocks along
// x share the pixels.
struct Tiling {
  int columns, rows;  // of threads
  int column_blocks, pixel_blocks;

  Tiling(int64_t vectors, int64_t pixels) {
    columns = 1;
    while (columns < vectors && columns < kThreads) columns *= 2;
    rows = kThreads / columns;
    column_blocks = int(ceil_divide(vectors, columns));
    const int64_t blocks = ceil_divide(pixels, int64_t(rows) * 4);  // a few pixels a thread
    const int64_t most = kMostBlocks / column_blocks > 0 ? kMostBlocks / column_blocks : 1;
    pixel_blocks = int(blocks < 1 ? 1 : blocks < most ? blocks : most);
  }

  dim3 grid() const { return dim3(pixel_blocks, column_blocks); }
  dim3 block() const { return dim3(columns, rows); }
};

// Adds the `own` sums of the threads of a column, row after row, and leaves them in `partial`.
template <int Size>
__device__ __forceinline__ void leave_partial(const float (&own)[Size], float* partial,
                                              int64_t vector, int64_t vectors) {
  __shared__ float sums[kThreads][Size];
  const int thread = threadIdx.x + threadIdx.y * blockDim.x;
#pragma unroll
  for (int i = 0; i < Size; ++i) sums[thread][i] = own[i];
  __syncthreads();
  if (threadIdx.y != 0 || vector >= vectors) return;
#pragma unroll
  for (int i = 0; i < Size; ++i) {
    float sum = 0;
    for (unsigned row = 0; row < blockDim.y; ++row) sum += sums[threadIdx.x + row * blockDim.x][i];
    partial[(int64_t(blockIdx.x) * vectors + vector) * Size + i] = sum;
  }
}

}  // namespace pgvae
