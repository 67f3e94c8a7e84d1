// The CUDA ops as torch calls them: checks, outputs, the current device and stream, a launcher.
#include "../tensor.h"
#include "launch.h"

#ifndef PGVAE_EMULATED
#include <dlfcn.h>
#include <torch/csrc/stable/accelerator.h>
#endif

namespace pgvae {
namespace {

#ifdef PGVAE_EMULATED  // on CPU tensors, for tests without a GPU
struct OnDevice {
  void* stream = nullptr;
  explicit OnDevice(const Tensor&) {}
};
#else
// torch's stream lookup, from the part of it that only a torch with CUDA has: linked to that, this
// library would not load elsewhere.
using StreamLookup = AOTITorchError(int32_t, void**);
StreamLookup* stream_lookup() {
  static void* const library = dlopen("libtorch_cuda.so", RTLD_NOLOAD | RTLD_LAZY);
  static void* const function =
      library ? dlsym(library, "aoti_torch_get_current_cuda_stream") : nullptr;
  STD_TORCH_CHECK(function, "this torch has no CUDA");
  return reinterpret_cast<StreamLookup*>(function);
}

// Makes the device of `x` current, and finds its stream.
struct OnDevice {
  torch::stable::accelerator::DeviceGuard guard;
  void* stream = nullptr;

  explicit OnDevice(const Tensor& x) : guard(x.get_device_index()) {
    STABLE_TORCH_ERROR_CODE_CHECK(stream_lookup()(x.get_device_index(), &stream));
  }
};
#endif

Activation activation(const Tensor& like, const Shape& s, const OnDevice& device) {
  const ScalarType type = like.scalar_type();
  STD_TORCH_CHECK(type == ScalarType::Float || type == ScalarType::BFloat16,
                  "float32 or bfloat16 is needed");
  return {s.n, s.c, s.h, s.w, s.channels_last,
          type == ScalarType::Float ? Number::Float : Number::BFloat16, device.stream};
}

const float* const_floats(const Tensor& x) {
  STD_TORCH_CHECK(x.scalar_type() == ScalarType::Float, "float32 or bfloat16 is needed");
  return static_cast<const float*>(x.const_data_ptr());
}
float* floats(const Tensor& x) { return const_cast<float*>(const_floats(x)); }

// For ops that only move bytes: any number of two or four.
Activation bytes(const Tensor& like, const Shape& s, const OnDevice& device) {
  const ScalarType type = like.scalar_type();
  const bool two = type == ScalarType::BFloat16 || type == ScalarType::Half;
  STD_TORCH_CHECK(two || type == ScalarType::Float, "float32 or bfloat16 is needed");
  return {s.n, s.c, s.h, s.w, s.channels_last, two ? Number::BFloat16 : Number::Float,
          device.stream};
}

Tensor partials(const Tensor& like, int64_t channels) {
  return empty_1d(like, kPartials * channels, ScalarType::Float);
}

Tensor bias_act_op(const Tensor& input, const Tensor& bias, double slope) {
  const OnDevice device(input);
  const Tensor x = dense(input);
  check_bias(bias, x);
  const Shape s = shape_of(x);
  Tensor y = empty_as(x, s);
  BiasAct args = {};
  args.x = x.const_data_ptr();
  args.bias = const_floats(bias);
  args.out = y.mutable_data_ptr();
  args.slope = slope;
  bias_act(activation(x, s, device), args);
  return y;
}

std::tuple<Tensor, Tensor> bias_act_backward_op(const Tensor& grad, const Tensor& output,
                                                double slope) {
  const OnDevice device(output);
  const Tensor y = dense(output), g = laid_out_as(grad, y);
  const Shape s = shape_of(y);
  Tensor gx = empty_as(y, s), gb = empty_1d(y, s.c, ScalarType::Float), sums = partials(y, s.c);
  BiasAct args = {};
  args.x = g.const_data_ptr();
  args.y = y.const_data_ptr();
  args.out = gx.mutable_data_ptr();
  args.partial = floats(sums);
  args.bias_gradient = floats(gb);
  args.slope = slope;
  bias_act_backward(activation(y, s, device), args);
  return {gx, gb};
}

std::tuple<Tensor, Tensor> pixel_norm_op(const Tensor& input, const Tensor& bias, bool norm_first,
                                         double slope, double eps) {
  const OnDevice device(input);
  const Tensor x = dense(input);
  check_bias(bias, x);
  const Shape s = shape_of(x);
  Tensor y = empty_as(x, s), rstd = empty_as(x, {s.n, 1, s.h, s.w, false}, ScalarType::Float);
  PixelNorm args = {};
  args.x = x.const_data_ptr();
  args.bias = const_floats(bias);
  args.out = y.mutable_data_ptr();
  args.rstd = floats(rstd);
  args.norm_first = norm_first;
  args.slope = slope;
  args.eps = eps;
  bias_act_pixel_norm(activation(x, s, device), args);
  return {y, rstd};
}

std::tuple<Tensor, Tensor> pixel_norm_backward_op(const Tensor& grad, const Tensor& output,
                                                  const Tensor& rstd, bool norm_first,
                                                  double slope) {
  const OnDevice device(output);
  const Tensor y = dense(output), g = laid_out_as(grad, y);
  const Shape s = shape_of(y);
  check_rstd(rstd, y);
  Tensor gx = empty_as(y, s), gb = empty_1d(y, s.c, ScalarType::Float), sums = partials(y, s.c);
  PixelNorm args = {};
  args.x = g.const_data_ptr();
  args.y = y.const_data_ptr();
  args.out = gx.mutable_data_ptr();
  args.rstd = floats(rstd);
  args.partial = floats(sums);
  args.bias_gradient = floats(gb);
  args.norm_first = norm_first;
  args.slope = slope;
  bias_act_pixel_norm_backward(activation(y, s, device), args);
  return {gx, gb};
}

std::tuple<Tensor, Tensor> avg_pool2_op(const Tensor& input, const Tensor& bias, double slope) {
  const OnDevice device(input);
  const Tensor x = dense(input);
  check_bias(bias, x);
  const Shape s = shape_of(x), half = {s.n, s.c, s.h / 2, s.w / 2, s.channels_last};
  Tensor y = empty_as(x, half), signs = empty_as(x, half, ScalarType::Byte);
  AvgPool2 args = {};
  args.x = x.const_data_ptr();
  args.bias = const_floats(bias);
  args.out = y.mutable_data_ptr();
  args.signs = static_cast<uint8_t*>(signs.mutable_data_ptr());
  args.slope = slope;
  bias_act_avg_pool2(activation(x, s, device), args);
  return {y, signs};
}

std::tuple<Tensor, Tensor> avg_pool2_backward_op(const Tensor& grad, const Tensor& saved,
                                                 int64_t height, int64_t width, double slope) {
  const OnDevice device(saved);
  const Tensor signs = dense(saved);
  const Shape half = shape_of(signs);
  const Tensor g = pooled_gradient(grad, signs, height, width);
  const Shape s = {half.n, half.c, height, width, half.channels_last};
  Tensor gx = empty_as(g, s), gb = empty_1d(g, s.c, ScalarType::Float), sums = partials(g, s.c);
  if (height % 2 || width % 2) torch::stable::zero_(gx);
  AvgPool2 args = {};
  args.x = g.const_data_ptr();
  args.out = gx.mutable_data_ptr();
  args.signs = static_cast<uint8_t*>(signs.mutable_data_ptr());
  args.partial = floats(sums);
  args.bias_gradient = floats(gb);
  args.slope = slope;
  bias_act_avg_pool2_backward(activation(g, s, device), args);
  return {gx, gb};
}

Tensor interleave2_op(const Tensor& p0, const Tensor& p1, const Tensor& p2, const Tensor& p3) {
  const OnDevice device(p0);
  const Tensor first = dense(p0);
  const Tensor phases[4] = {first, laid_out_as(p1, first), laid_out_as(p2, first),
                            laid_out_as(p3, first)};
  const Shape s = shape_of(first);
  Tensor whole = empty_as(first, {s.n, s.c, 2 * s.h, 2 * s.w, s.channels_last});
  const void* from[4];
  for (int k = 0; k < 4; ++k) from[k] = phases[k].const_data_ptr();
  interleave2(bytes(first, s, device), from, whole.mutable_data_ptr());
  return whole;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> deinterleave2_op(const Tensor& input) {
  const OnDevice device(input);
  const Tensor x = dense(input);
  const Shape s = shape_of(x), half = halved(s);
  Tensor phases[4] = {empty_as(x, half), empty_as(x, half), empty_as(x, half), empty_as(x, half)};
  void* to[4];
  for (int k = 0; k < 4; ++k) to[k] = phases[k].mutable_data_ptr();
  deinterleave2(bytes(x, half, device), x.const_data_ptr(), to);
  return {phases[0], phases[1], phases[2], phases[3]};
}

Tensor up2_blend_op(const Tensor& old_images, const Tensor& new_images, const Tensor& alpha) {
  const OnDevice device(new_images);
  const Tensor fresh = dense(new_images);
  const Shape s = shape_of(fresh);
  const Tensor old = blend_partner(old_images, fresh);
  check_alpha(alpha, fresh);
  Tensor y = empty_as(fresh, s);
  Up2Blend args = {};
  args.old_images = old.const_data_ptr();
  args.images = fresh.const_data_ptr();
  args.alpha = const_floats(alpha);
  args.out = y.mutable_data_ptr();
  up2_blend(activation(fresh, s, device), args);
  return y;
}

std::tuple<Tensor, Tensor> up2_blend_backward_op(const Tensor& grad, const Tensor& alpha) {
  const OnDevice device(grad);
  const Tensor g = dense(grad);
  const Shape s = shape_of(g);
  check_alpha(alpha, g);
  Tensor g_old = empty_as(g, halved(s)), g_new = empty_as(g, s);
  Up2Blend args = {};
  args.images = g.const_data_ptr();
  args.alpha = const_floats(alpha);
  args.out = g_new.mutable_data_ptr();
  args.old_gradient = g_old.mutable_data_ptr();
  up2_blend_backward(activation(g, s, device), args);
  return {g_old, g_new};
}

MomentKl moment_args(const Tensor& z, const Tensor& mean, const Tensor& m2, const Tensor& scale,
                     bool project, const OnDevice& device) {
  MomentKl args = {};
  args.z = const_floats(z);
  args.count = z.size(0);
  args.d = z.size(1);
  args.project = project;
  args.scale = floats(scale);
  args.mean = floats(mean);
  args.m2 = floats(m2);
  args.stream = device.stream;
  return args;
}

std::tuple<Tensor, Tensor, Tensor> moment_kl_op(const Tensor& input, bool project) {
  const OnDevice device(input);
  const Tensor z = latents(input);
  const Tensor scale = empty_1d(z, z.size(0), ScalarType::Float);
  Tensor kl = torch::stable::new_empty(z, {}), mean = empty_1d(z, z.size(1), ScalarType::Float);
  Tensor m2 = empty_1d(z, z.size(1), ScalarType::Float);
  MomentKl args = moment_args(z, mean, m2, scale, project, device);
  args.kl = floats(kl);
  moment_kl(args);
  return {kl, mean, m2};
}

Tensor moment_kl_backward_op(std::optional<Tensor> gkl, std::optional<Tensor> gmean,
                             std::optional<Tensor> gm2, const Tensor& input, const Tensor& mean,
                             const Tensor& m2, bool project) {
  const OnDevice device(input);
  const Tensor z = latents(input), scale = empty_1d(z, z.size(0), ScalarType::Float);
  check_moments(mean, m2, z);
  const auto of_kl = moment_gradient(gkl, z), of_mean = moment_gradient(gmean, z),
             of_m2 = moment_gradient(gm2, z);
  Tensor gz = torch::stable::empty_like(z);
  MomentKl args = moment_args(z, mean, m2, scale, project, device);
  args.kl_gradient = of_kl ? const_floats(*of_kl) : nullptr;
  args.mean_gradient = of_mean ? const_floats(*of_mean) : nullptr;
  args.m2_gradient = of_m2 ? const_floats(*of_m2) : nullptr;
  args.z_gradient = floats(gz);
  moment_kl_backward(args);
  return gz;
}

GaussianKl gaussian_args(const Tensor& mu, const Tensor& logvar, const Tensor& noise,
                         const OnDevice& device) {
  GaussianKl args = {};
  args.mu = const_floats(mu);
  args.logvar = const_floats(logvar);
  args.noise = const_floats(noise);
  args.count = mu.size(0);
  args.d = mu.size(1);
  args.mu_stride = mu.stride(0);
  args.logvar_stride = logvar.stride(0);
  args.stream = device.stream;
  return args;
}

std::tuple<Tensor, Tensor> gaussian_kl_op(const Tensor& mean, const Tensor& log_variance,
                                          const Tensor& epsilon) {
  const OnDevice device(mean);
  const Tensor mu = latent_rows(mean), logvar = latent_rows(log_variance),
               noise = latents(epsilon);
  check_same_latents(mu, logvar);
  check_same_latents(mu, noise);
  Tensor z = torch::stable::empty_like(noise), kl = empty_1d(mu, mu.size(0), ScalarType::Float);
  GaussianKl args = gaussian_args(mu, logvar, noise, device);
  args.z = floats(z);
  args.kl = floats(kl);
  gaussian_kl_reparam(args);
  return {z, kl};
}

std::tuple<Tensor, Tensor> gaussian_kl_backward_op(const Tensor& grad_z, const Tensor& grad_kl,
                                                   const Tensor& mean, const Tensor& log_variance,
                                                   const Tensor& epsilon) {
  const OnDevice device(mean);
  const Tensor mu = latent_rows(mean), logvar = latent_rows(log_variance),
               noise = latents(epsilon), gz = latents(grad_z), gkl = row_gradient(grad_kl, mu);
  check_same_latents(mu, logvar);
  check_same_latents(mu, noise);
  check_same_latents(mu, gz);
  Tensor gmu = torch::stable::empty_like(noise), glogvar = torch::stable::empty_like(noise);
  GaussianKl args = gaussian_args(mu, logvar, noise, device);
  args.z_gradient = const_floats(gz);
  args.kl_gradient = const_floats(gkl);
  args.mu_gradient = floats(gmu);
  args.logvar_gradient = floats(glogvar);
  gaussian_kl_reparam_backward(args);
  return {gmu, glogvar};
}

#ifdef PGVAE_EMULATED
STABLE_TORCH_LIBRARY_IMPL(pgvae_emulated, CPU, m) {
#else
STABLE_TORCH_LIBRARY_IMPL(pgvae, CUDA, m) {
#endif
  m.impl("bias_act", TORCH_BOX(&bias_act_op));
  m.impl("bias_act_backward", TORCH_BOX(&bias_act_backward_op));
  m.impl("bias_act_pixel_norm", TORCH_BOX(&pixel_norm_op));
  m.impl("bias_act_pixel_norm_backward", TORCH_BOX(&pixel_norm_backward_op));
  m.impl("bias_act_avg_pool2", TORCH_BOX(&avg_pool2_op));
  m.impl("bias_act_avg_pool2_backward", TORCH_BOX(&avg_pool2_backward_op));
  m.impl("interleave2", TORCH_BOX(&interleave2_op));
  m.impl("deinterleave2", TORCH_BOX(&deinterleave2_op));
  m.impl("up2_blend", TORCH_BOX(&up2_blend_op));
  m.impl("up2_blend_backward", TORCH_BOX(&up2_blend_backward_op));
  m.impl("moment_kl", TORCH_BOX(&moment_kl_op));
  m.impl("moment_kl_backward", TORCH_BOX(&moment_kl_backward_op));
  m.impl("gaussian_kl_reparam", TORCH_BOX(&gaussian_kl_op));
  m.impl("gaussian_kl_reparam_backward", TORCH_BOX(&gaussian_kl_backward_op));
}

}  // namespace
}  // namespace pgvae
