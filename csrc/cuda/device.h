// What the kernels share: 16-byte loads of float and bfloat16, sums that repeat bit for bit, launch.
#pragma once

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#define PGVAE_LAUNCH(kernel, grid, block, stream, ...) \
  kernel<<<grid, block, 0, static_cast<cudaStream_t>(stream)>>>(__VA_ARGS__)
#else
#include "simt.h"
#endif

#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <type_traits>

namespace pgvae {

constexpr int kThreads = 256;
constexpr int kMostBlocks = 1056;  // 8 on each of an H100's 132 processors

using bfloat16 = __nv_bfloat16;

__device__ __forceinline__ float load(float value) { return value; }
__device__ __forceinline__ float load(bfloat16 value) { return __bfloat162float(value); }
__device__ __forceinline__ void store(float& to, float value) { to = value; }
__device__ __forceinline__ void store(bfloat16& to, float value) {
  to = __float2bfloat16_rn(value);
}

// 16 bytes of numbers: 4 floats or 8 bfloat16.
template <class T>
struct Vector {
  static constexpr int kSize = 16 / sizeof(T);

  static __device__ __forceinline__ void load(const T* from, float (&to)[kSize]) {
    const uint4 bits = __ldg(reinterpret_cast<const uint4*>(from));
    T numbers[kSize];
    memcpy(numbers, &bits, 16);
#pragma unroll
    for (int i = 0; i < kSize; ++i) to[i] = pgvae::load(numbers[i]);
  }

  static __device__ __forceinline__ void store(T* to, const float (&from)[kSize]) {
    T numbers[kSize];
#pragma unroll
    for (int i = 0; i < kSize; ++i) pgvae::store(numbers[i], from[i]);
    uint4 bits;
    memcpy(&bits, numbers, 16);
    *reinterpret_cast<uint4*>(to) = bits;
  }
};

__device__ __forceinline__ float leaky_relu(float value, float slope) {
  return value > 0 ? value : value * slope;
}

// The sum over `Lanes` neighbouring lanes of a warp, in every one of them.
template <int Lanes>
__device__ __forceinline__ float sum_lanes(float value) {
#pragma unroll
  for (int mask = Lanes / 2; mask > 0; mask /= 2)
    value += __shfl_xor_sync(0xffffffffu, value, mask);
  return value;
}

// The sum over a block of kThreads, in every thread.
__device__ __forceinline__ float sum_block(float value) {
  __shared__ float of_warp[kThreads / 32];
  const int thread = threadIdx.x + threadIdx.y * blockDim.x;
  value = sum_lanes<32>(value);
  __syncthreads();  // the last call's sums have been read
  if (thread % 32 == 0) of_warp[thread / 32] = value;
  __syncthreads();
  float sum = 0;
  for (int warp = 0; warp < kThreads / 32; ++warp) sum += of_warp[warp];
  return sum;
}

constexpr int kColumns = 32;  // threads along x of the blocks below

// Adds a number of each of `Rows` threads along y, one after another, for those who want the sum.
template <int Rows>
__device__ __forceinline__ float sum_column(float value, bool wanted = true) {
  __shared__ float of_row[Rows][kColumns];
  __syncthreads();  // the last call's numbers have been read
  of_row[threadIdx.y][threadIdx.x] = value;
  __syncthreads();
  float sum = 0;
  for (int row = 0; wanted && row < Rows; ++row) sum += of_row[row][threadIdx.x];
  return sum;
}

inline int64_t ceil_divide(int64_t a, int64_t b) { return (a + b - 1) / b; }

inline int blocks_for(int64_t items, int64_t per_block) {
  const int64_t blocks = ceil_divide(items, per_block);
  return int(blocks < 1 ? 1 : blocks < kMostBlocks ? blocks : kMostBlocks);
}

inline bool is_aligned(const void* pointer) {
  return reinterpret_cast<uintptr_t>(pointer) % 16 == 0;
}

inline void check_launch(const char* kernel) {
  const cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess)
    throw std::runtime_error(std::string(kernel) + ": " + cudaGetErrorString(error));
}

}  // namespace pgvae
