// moment_kl: mean and m2 over the batch for each of d dimensions, v = m2 / count, and
//   kl = 1/2 sum_d (v + mean^2 - 1 - log v);
// with `project` each row is first divided by its norm. Backward:
//   gz = (gkl mean + gmean) / count + (z - mean) (gkl (1 - 1/v) / count + 2 gm2),
// and through the projection: r (gz - z <gz, z>), r = 1 / norm.
#include "device.h"
#include "launch.h"

namespace pgvae {
namespace {

constexpr float kLeastNorm = 1e-12f;
constexpr int kColumns = 32, kRows = kThreads / kColumns;

// One block a row: scale = 1 / norm.
__global__ void __launch_bounds__(kThreads)
    inverse_norms(const float* __restrict__ z, float* __restrict__ scale, int64_t d) {
  const float* row = z + int64_t(blockIdx.x) * d;
  float sum = 0;
  for (int64_t k = threadIdx.x; k < d; k += kThreads) sum += row[k] * row[k];
  sum = sum_block(sum);
  if (threadIdx.x == 0) scale[blockIdx.x] = 1 / fmaxf(sqrtf(sum), kLeastNorm);
}

// Adds the rows of a block's columns in a fixed order; the sum is in every row.
__device__ __forceinline__ float sum_column(float value) {
  __shared__ float of_row[kRows][kColumns];
  __syncthreads();
  of_row[threadIdx.y][threadIdx.x] = value;
  __syncthreads();
  float sum = 0;
  for (int row = 0; row < kRows; ++row) sum += of_row[row][threadIdx.x];
  return sum;
}

// kColumns dimensions a block; two passes over the batch, so that nothing cancels.
__global__ void __launch_bounds__(kThreads)
    moments(const float* __restrict__ z, const float* __restrict__ scale, float* __restrict__ mean,
            float* __restrict__ m2, int64_t count, int64_t d) {
  const int64_t k = int64_t(blockIdx.x) * kColumns + threadIdx.x;
  const bool mine = k < d;
  float sum = 0;
  for (int64_t n = threadIdx.y; mine && n < count; n += kRows)
    sum += z[n * d + k] * (scale ? scale[n] : 1);
  const float centre = sum_column(sum) / count;
  sum = 0;
  for (int64_t n = threadIdx.y; mine && n < count; n += kRows) {
    const float deviation = z[n * d + k] * (scale ? scale[n] : 1) - centre;
    sum += deviation * deviation;
  }
  sum = sum_column(sum);
  if (!mine || threadIdx.y != 0) return;
  mean[k] = centre;
  m2[k] = sum;
}

// One block.
__global__ void __launch_bounds__(kThreads)
    kl_of(const float* __restrict__ mean, const float* __restrict__ m2, float* __restrict__ kl,
          int64_t count, int64_t d) {
  float sum = 0;
  for (int64_t k = threadIdx.x; k < d; k += kThreads) {
    const float v = m2[k] / count;
    sum += v + mean[k] * mean[k] - 1 - logf(v);
  }
  sum = sum_block(sum);
  if (threadIdx.x == 0) *kl = sum / 2;
}

__device__ __forceinline__ float gradient_at(const MomentKl& args, int64_t k, float unit) {
  const float gkl = args.kl_gradient ? *args.kl_gradient : 0;
  const float gmean = args.mean_gradient ? args.mean_gradient[k] : 0;
  float slope = args.m2_gradient ? 2 * args.m2_gradient[k] : 0;
  if (args.kl_gradient) slope += gkl * (1 - args.count / args.m2[k]) / args.count;
  return (gkl * args.mean[k] + gmean) / args.count + (unit - args.mean[k]) * slope;
}

// One block a row.
__global__ void __launch_bounds__(kThreads) gradient(MomentKl args) {
  const int64_t start = int64_t(blockIdx.x) * args.d;
  const float r = args.project ? args.scale[blockIdx.x] : 1;
  float along = 0;
  if (args.project) {
    for (int64_t k = threadIdx.x; k < args.d; k += kThreads) {
      const float unit = args.z[start + k] * r;
      along += gradient_at(args, k, unit) * unit;
    }
    along = sum_block(along);
    if (r >= 1 / kLeastNorm) along = 0;  // the clamp's gradient: the norm was not used
  }
  for (int64_t k = threadIdx.x; k < args.d; k += kThreads) {
    const float unit = args.z[start + k] * r;
    args.z_gradient[start + k] = r * (gradient_at(args, k, unit) - unit * along);
  }
}

void launch_scales(const MomentKl& args) {
  if (!args.project || args.count == 0) return;
  PGVAE_LAUNCH(inverse_norms, dim3(args.count), dim3(kThreads), args.stream, args.z, args.scale,
               args.d);
  check_launch("inverse_norms");
}

}  // namespace

void moment_kl(const MomentKl& args) {
  launch_scales(args);
  if (args.d > 0)
    PGVAE_LAUNCH(moments, dim3(ceil_divide(args.d, kColumns)), dim3(kColumns, kRows), args.stream,
                 args.z, args.project ? args.scale : nullptr, args.mean, args.m2, args.count,
                 args.d);
  check_launch("moments");
  PGVAE_LAUNCH(kl_of, dim3(1), dim3(kThreads), args.stream, args.mean, args.m2, args.kl,
               args.count, args.d);
  check_launch("moment_kl");
}

void moment_kl_backward(const MomentKl& args) {
  if (args.count * args.d == 0) return;
  launch_scales(args);
  PGVAE_LAUNCH(gradient, dim3(args.count), dim3(kThreads), args.stream, args);
  check_launch("moment_kl_backward");
}

}  // namespace pgvae
